// Refuses disks that hold only the differences from a parent, which QEMU does not open: their gaps would read as zeros.
//
// Used by prepare.ts. Layouts: Microsoft's Virtual Hard Disk Image Format Specification and [MS-VHDX]; VirtualBox's
// VDICore.h. qcow2, qcow, qed and VMDK, whose parents QEMU opens, are the subject of references.ts.

import { printable } from '../nbd/text.js';
import type { DiskReader } from '../partitions/table.js';
import { ImageError } from './errors.js';
import type { ImageFormat } from './formats.js';
import type { Look } from './look.js';

/** The longest name of a parent that a message shows, in characters. */
const SHOWN_LENGTH = 200;

const VHD_DIFFERENCING = 4;
const VDI_DIFFERENCING = 4;
/** Copies of the region table of a VHDX. */
const REGION_TABLES = [192 * 1024, 256 * 1024];
const REGION_LENGTH = 64 * 1024;
const METADATA_REGION = '06a27c8b90479a4bb8fe575f050f886e';
const FILE_PARAMETERS = '3767a1ca36fa434db3b633f0aa44e76b';
const PARENT_LOCATOR = '2d5fd3a80bb34d45abf7d3d84834ab0c';
const HAS_PARENT = 2;
/** Bytes of a metadata table before its entries. */
const METADATA_HEADER = 32;
/** Maximum entries of a region table or metadata table. */
const MAX_ENTRIES = 2047;
/** Names of a parent in its locator, the best one first. */
const LOCATOR_KEYS = ['relative_path', 'absolute_win32_path', 'volume_path'];

/** UTF-16, up to a NUL. */
function utf16(bytes: Buffer, order: 'utf-16le' | 'utf-16be'): string {
  const text = new TextDecoder(order).decode(bytes);
  return text.split('\0', 1)[0] ?? '';
}

const isVhdDifference = (footer: Buffer): boolean =>
  footer.length >= 64 &&
  footer.toString('latin1', 0, 8) === 'conectix' &&
  footer.readUInt32BE(60) === VHD_DIFFERENCING;

/** The name of a VHD's parent, empty when the first bytes do not hold it; undefined when it has none. */
function vhdParent({ head, tail }: Pick<Look, 'head' | 'tail'>): string | undefined {
  const footer = [head, tail].find(isVhdDifference);
  if (footer === undefined) return undefined;
  const at = Number(footer.readBigUInt64BE(16));
  if (at > head.length || head.toString('latin1', at, at + 8) !== 'cxsparse') return '';
  return utf16(head.subarray(at + 64, at + 576), 'utf-16be');
}

const guid = (bytes: Buffer): string => {
  const hex = Buffer.from(bytes).subarray(0, 4).reverse().toString('hex');
  const parts = [bytes.subarray(4, 6), bytes.subarray(6, 8)].map((part) =>
    Buffer.from(part).reverse().toString('hex'),
  );
  return [hex, ...parts, bytes.toString('hex', 8, 10), bytes.toString('hex', 10, 16)].join('-');
};

/** The parent of a VDI, which has only a UUID. */
function vdiParent({ head }: Pick<Look, 'head'>): string | undefined {
  if (head.length < 0x1c8) return undefined;
  const uuid = head.subarray(0x1b8, 0x1c8);
  const isNull = uuid.every((byte) => byte === 0);
  if (head.readUInt32LE(0x4c) !== VDI_DIFFERENCING && isNull) return undefined;
  return isNull ? '' : `{${guid(uuid)}}`;
}

async function readWithin({ size, read }: DiskReader, at: number, length: number): Promise<Buffer> {
  return BigInt(at) + BigInt(length) > size ? Buffer.alloc(0) : read(BigInt(at), length);
}

/** The offset that an entry of 32 bytes with this GUID has after it; undefined when there is none. */
function entryOf(table: Buffer, first: number, count: number, id: string): Buffer | undefined {
  for (let i = 0; i < Math.min(count, MAX_ENTRIES); i++) {
    const entry = table.subarray(first + i * 32, first + (i + 1) * 32);
    if (entry.length === 32 && entry.toString('hex', 0, 16) === id) return entry;
  }
  return undefined;
}

/** The metadata region of a VHDX: its table and its items. */
async function vhdxMetadata(file: DiskReader): Promise<Buffer> {
  for (const at of REGION_TABLES) {
    const table = await readWithin(file, at, REGION_LENGTH);
    if (table.toString('latin1', 0, 4) !== 'regi') continue;
    const entry = entryOf(table, 16, table.readUInt32LE(8), METADATA_REGION);
    if (entry === undefined) continue;
    const [offset, length] = [Number(entry.readBigUInt64LE(16)), entry.readUInt32LE(24)];
    return readWithin(file, offset, Math.min(length, 1024 * 1024));
  }
  return Buffer.alloc(0);
}

function metadataItem(metadata: Buffer, id: string): Buffer | undefined {
  if (metadata.length < METADATA_HEADER) return undefined;
  const entry = entryOf(metadata, METADATA_HEADER, metadata.readUInt16LE(10), id);
  if (entry === undefined) return undefined;
  const at = entry.readUInt32LE(16);
  return metadata.subarray(at, at + entry.readUInt32LE(20));
}

/** The values of a parent locator. */
function locatorValues(locator: Buffer): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  if (locator.length < 20) return values;
  for (let i = 0; i < locator.readUInt16LE(18); i++) {
    const entry = locator.subarray(20 + i * 12, 20 + (i + 1) * 12);
    if (entry.length < 12) break;
    const [keyAt, valueAt] = [entry.readUInt32LE(0), entry.readUInt32LE(4)];
    const key = utf16(locator.subarray(keyAt, keyAt + entry.readUInt16LE(8)), 'utf-16le');
    values.set(key, utf16(locator.subarray(valueAt, valueAt + entry.readUInt16LE(10)), 'utf-16le'));
  }
  return values;
}

async function vhdxParent(file: DiskReader): Promise<string | undefined> {
  const metadata = await vhdxMetadata(file);
  if (metadata.toString('latin1', 0, 8) !== 'metadata') return undefined;
  const parameters = metadataItem(metadata, FILE_PARAMETERS);
  if (parameters === undefined || parameters.length < 8) return undefined;
  if ((parameters.readUInt32LE(4) & HAS_PARENT) === 0) return undefined;
  const values = locatorValues(metadataItem(metadata, PARENT_LOCATOR) ?? Buffer.alloc(0));
  const key = LOCATOR_KEYS.find((one) => values.has(one));
  return key === undefined ? '' : values.get(key);
}

/** The programs that make one disk of a child and its parent. */
const MERGE: Partial<Readonly<Record<ImageFormat, string>>> = {
  vhd: 'Convert-VHD or VBoxManage clonemedium',
  vhdx: 'Convert-VHD',
  vdi: 'VBoxManage clonemedium',
};

/**
 * @param read lets a function read the image itself
 * @throws ImageError when an image holds only the differences from its parent; the errors of `read`
 */
export async function refuseChild(
  name: string,
  format: ImageFormat,
  look: Pick<Look, 'head' | 'tail'>,
  read: (use: (file: DiskReader) => Promise<string | undefined>) => Promise<string | undefined>,
): Promise<void> {
  let parent: string | undefined;
  if (format === 'vhd') parent = vhdParent(look);
  else if (format === 'vdi') parent = vdiParent(look);
  else if (format === 'vhdx') parent = await read(vhdxParent);
  if (parent === undefined) return;
  const of = parent === '' ? 'its parent' : `its parent ${printable(parent, SHOWN_LENGTH)}`;
  throw new ImageError(
    `${printable(name)} holds only the differences from ${of}, which QEMU does not open: ` +
      `make one disk of both where it was made (${MERGE[format]})`,
  );
}
