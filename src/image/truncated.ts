// Whether a local image has been cut short, by its own tables: QEMU reads the missing bytes of a qcow2 or VDI as zeros.
//
// Used by prepare.ts. Layouts: QEMU's docs/interop/qcow2.txt and block/vdi.c.

import type { DiskReader } from '../partitions/table.js';
import { readWithin } from '../partitions/table.js';
import type { ImageFormat } from './formats.js';

const HEADER_LENGTH = 104;
/** Maximum bytes of a table that is read. */
const MAX_TABLE = 8 * 1024 * 1024;
/** Bits of a refcount table's entry that are an offset. */
const OFFSET_BITS = 0xffff_ffff_ffff_fe00n;
/** Bits of a qcow2's incompatible features: the reference counts are not up to date, or the data are elsewhere. */
const [DIRTY, DATA_FILE] = [1n, 4n];

/** The index of a table's last entry that is not 0; -1: there is none. @param bits of an entry */
function lastEntry(table: Buffer, bits: number): number {
  const byte = table.findLastIndex((value) => value !== 0);
  if (byte < 0) return -1;
  if (bits >= 8) return Math.floor(byte / (bits / 8));
  // Smaller entries begin with the lowest bits of a byte.
  const highest = 31 - Math.clz32(table[byte] ?? 0);
  return byte * (8 / bits) + Math.floor(highest / bits);
}

/** The begin of the last cluster that a qcow2 uses; undefined where its tables do not say it. */
async function lastCluster(file: DiskReader, head: Buffer): Promise<bigint | undefined> {
  if (head.length < HEADER_LENGTH) return undefined;
  const isOld = head.readUInt32BE(4) === 2;
  const features = isOld ? 0n : head.readBigUInt64BE(72);
  const [clusterBits, order] = [head.readUInt32BE(20), isOld ? 4 : head.readUInt32BE(96)];
  if ((features & (DIRTY | DATA_FILE)) !== 0n || clusterBits < 9 || clusterBits > 21 || order > 6)
    return undefined;
  const cluster = 2 ** clusterBits;
  const length = head.readUInt32BE(56) * cluster;
  if (length > MAX_TABLE) return undefined;
  const at = head.readBigUInt64BE(48);
  if (at + BigInt(length) > file.size) return at + BigInt(length);
  const table = await readWithin(file, at, length);
  const entry = lastEntry(table, 64);
  if (entry < 0) return undefined;
  const block = table.readBigUInt64BE(entry * 8) & OFFSET_BITS;
  if (block + BigInt(cluster) > file.size) return block + BigInt(cluster);
  const bits = 2 ** order;
  const counts = await readWithin(file, block, cluster);
  const index = entry * ((cluster * 8) / bits) + lastEntry(counts, bits);
  return BigInt(index) * BigInt(cluster);
}

/** The end of the last block that a VDI uses. */
function lastBlock(head: Buffer): bigint | undefined {
  if (head.length < 0x188) return undefined;
  const [data, block, extra, count] = [0x158, 0x178, 0x17c, 0x184].map((at) => BigInt(head.readUInt32LE(at)));
  return data + (block + extra) * count;
}

/**
 * A line for the user about an image that ends before its last byte; undefined: it does not.
 * @param shown printable
 * @param read lets a function read the image
 */
export async function truncationOf(
  shown: string,
  format: ImageFormat,
  head: Buffer,
  read: (use: (file: DiskReader) => Promise<string | undefined>) => Promise<string | undefined>,
): Promise<string | undefined> {
  if (format !== 'qcow2' && format !== 'vdi') return undefined;
  return read(async (file) => {
    // The last cluster of a qcow2 may end early.
    const needed = format === 'vdi' ? lastBlock(head) : await lastCluster(file, head);
    return lineFor(shown, needed, file.size);
  });
}

function lineFor(shown: string, needed: bigint | undefined, size: bigint): string | undefined {
  if (needed === undefined || needed <= size) return undefined;
  return (
    `${shown} seems to be cut short: it has ${size} bytes, and uses bytes at ${needed}; ` +
    'those that are missing read as zeros: get it again, or check it with qemu-img check'
  );
}
