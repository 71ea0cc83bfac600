// Parses VMDK descriptors, and writes the descriptors that QEMU gets instead. Pure.
//
// QEMU's driver opens the extents that a descriptor names, and no option prevents that. So it never sees an original
// descriptor: a single flat extent is served as raw bytes, and for several extents a new descriptor has their absolute
// paths. Layout: VMware's Virtual Disk Format 1.1.

import { printable } from '../nbd/text.js';
import { ImageError } from './errors.js';
import { SECTOR } from './qemu.js';
import { HEAD_LENGTH, type Reference, utf8 } from './reference.js';

/** A line of a descriptor: `RW 4192256 SPARSE "disk-s001.vmdk"`. */
export interface VmdkExtent {
  readonly sectors: bigint;
  readonly type: string;
  /** Empty when it cannot be read. */
  readonly name: string;
  /** Where the extent begins in its file, in sectors. */
  readonly offset: bigint;
}

/** The kind of a VMDK file: a disk, one extent of it, or a text that names extents. */
export type Vmdk =
  | { readonly kind: 'sparse'; readonly parent: Reference | undefined }
  | {
      readonly kind: 'descriptor';
      readonly parent: Reference | undefined;
      readonly extents: readonly VmdkExtent[];
      /** Its lines CID, parentCID and createType. */
      readonly identity: readonly string[];
    };

/** Types whose files hold the plain bytes of the disk. */
const FLAT_TYPES = ['FLAT', 'VMFS'];
const EXTENT_TYPES = [...FLAT_TYPES, 'SPARSE', 'VMFSSPARSE', 'SESPARSE'];

const isSparse = (head: Buffer): boolean => ['KDMV', 'COWD'].includes(head.toString('latin1', 0, 4));

/** Whether a sparse file holds nothing but a descriptor, which QEMU would follow. */
export function isEmbeddedDescriptor(head: Buffer): boolean {
  if (head.toString('latin1', 0, 4) !== 'KDMV') return false;
  return head.length < 44 || (head.readBigUInt64LE(12) === 0n && head.readBigUInt64LE(28) !== 0n);
}

/**
 * The bytes from `from` to the first NUL, or to `end`, as characters of one byte; undefined when some of them are
 * beyond `head`.
 */
function bytesOfText(head: Buffer, from: number, end = Number.POSITIVE_INFINITY): string | undefined {
  const nul = head.indexOf(0, from);
  const to = Math.min(nul < 0 ? Number.POSITIVE_INFINITY : nul, end);
  if (to > head.length && head.length >= HEAD_LENGTH) return undefined;
  return head.toString('latin1', from, Math.min(to, head.length));
}

const PARENT = 'parentFileNameHint';
/** Where QEMU looks for the name of the parent in sparse files, and the bytes that it looks at. */
const PARENT_AREA = { offset: 512, length: 20 * 512 };

/** QEMU looks for the word anywhere in the text. */
function parentIn(text: string | undefined): Reference | undefined {
  if (text === undefined) return { role: 'parent', name: '', format: 'vmdk' };
  const at = text.indexOf(PARENT);
  if (at < 0) return undefined;
  const [name = ''] = text.slice(at + PARENT.length + 2).split('"', 1);
  return { role: 'parent', name: utf8(name), format: 'vmdk' };
}

/**
 * Refuses a sparse file without a descriptor, as QEMU does with the name of an errno only.
 * @throws ImageError when a file is one extent of a disk, or the differences from a parent
 */
export function refuseExtent(name: string, head: Buffer): void {
  const { offset, length } = PARENT_AREA;
  if (!isSparse(head) || isEmbeddedDescriptor(head)) return;
  if (head.toString('latin1', offset, offset + length).includes('CID=')) return;
  throw new ImageError(
    `${printable(name)} is one extent of a disk: name its descriptor, the small .vmdk file that contains this name`,
  );
}

const EXTENT_LINE = /^\s*(?:RW|RDONLY|NOACCESS)\b/;
const EXTENT = /^\s*RW\s+(\d{1,16})\s+([A-Z]+)\s+"([^"]+)"(?:\s+(\d{1,16}))?\s*$/;

function extentOf(line: string): VmdkExtent {
  const [, sectors, type, name, offset = '0'] = EXTENT.exec(line) ?? [];
  if (sectors === undefined || type === undefined || name === undefined || !EXTENT_TYPES.includes(type)) {
    return { sectors: 0n, type: '', name: '', offset: 0n };
  }
  return { sectors: BigInt(sectors), type, name: utf8(name), offset: BigInt(offset) };
}

/** Parses a VMDK that begins with `head`. */
export function parseVmdk(head: Buffer): Vmdk {
  if (isSparse(head)) {
    const { offset, length } = PARENT_AREA;
    const text = offset > head.length ? '' : bytesOfText(head, offset, offset + length);
    return { kind: 'sparse', parent: parentIn(text) };
  }
  const text = bytesOfText(head, 0);
  const lines = (text ?? '').split(/[\r\n]+/);
  return {
    kind: 'descriptor',
    parent: parentIn(text),
    extents: lines.filter((line) => EXTENT_LINE.test(line)).map(extentOf),
    identity: lines.filter((line) => /^(CID|parentCID)=[0-9a-f]{1,8}\s*$|^createType="\w+"\s*$/i.test(line)),
  };
}

/** QEMU's name of the format of an extent's file. */
const formatOf = ({ type }: VmdkExtent): string => (FLAT_TYPES.includes(type) ? 'raw' : 'vmdk');

/** The bytes that the file of an extent must have; undefined: its own tables say it. */
export function neededOfExtent(extent: VmdkExtent): bigint | undefined {
  return formatOf(extent) === 'raw' ? (extent.offset + extent.sectors) * SECTOR : undefined;
}

/** All files that a VMDK which begins with `head` names. */
export function vmdkReferences(head: Buffer): readonly Reference[] {
  const vmdk = parseVmdk(head);
  const parents = vmdk.parent === undefined ? [] : [vmdk.parent];
  const embedded: Reference = { role: 'extent', name: '', format: 'vmdk' };
  if (vmdk.kind === 'sparse') return isEmbeddedDescriptor(head) ? [...parents, embedded] : parents;
  const extents = vmdk.extents.map(
    (one) => ({ role: 'extent', name: one.name, format: formatOf(one) }) as const,
  );
  return [...parents, ...extents];
}

/** The single flat extent of a disk; undefined for every other disk. */
export function flatExtent({
  extents,
  parent,
}: Extract<Vmdk, { kind: 'descriptor' }>): VmdkExtent | undefined {
  const [extent, ...more] = extents;
  if (extent === undefined || more.length > 0 || parent !== undefined) return undefined;
  return formatOf(extent) === 'raw' ? extent : undefined;
}

/** A descriptor of the same disk with these paths of extents. No path has a quote or a newline. */
export function descriptorWith(
  { extents, identity }: Extract<Vmdk, { kind: 'descriptor' }>,
  paths: readonly string[],
): string {
  const lines = extents.map(({ sectors, type, offset }, index) => {
    const place = type === 'FLAT' ? ` ${offset}` : '';
    return `RW ${sectors} ${type} "${paths[index]}"${place}`;
  });
  return ['# Disk DescriptorFile', 'version=1', ...identity, ...lines, ''].join('\n');
}
