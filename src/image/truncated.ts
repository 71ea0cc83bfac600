// Whether an image has been cut short, by its own tables: QEMU reads the missing bytes of most formats as zeros.
//
// Used by prepare.ts. Layouts: QEMU's docs/interop/qcow2.txt and parallels.txt, block/qcow.c and block/vdi.c; VMware's
// Virtual Disk Format 1.1.

import { type DiskReader, readWithin } from '../partitions/table.js';

const HEADER_LENGTH = 104;
/** Maximum bytes of a table that is read. */
const MAX_TABLE = 8 * 1024 * 1024;
/** Maximum bytes of tables that are read at once. */
const MAX_RUN = 1024 * 1024;
/** Most reads of the tables of a map: each may be a request to a distant web server. */
const MOST_READS = 16;
/** Bits of a refcount table's entry that are an offset. */
const OFFSET_BITS = 0xffff_ffff_ffff_fe00n;
/** Bits of a qcow2's incompatible features: the reference counts are not up to date, or the data are elsewhere. */
const [DIRTY, DATA_FILE] = [1n, 4n];
/** Another of these features: entries of 16 bytes. */
const EXTENDED_L2 = 16n;
/** Bits of an entry of a qcow2's map: the place, and whether the cluster is there, and reads as zeros. */
const [PLACE_BITS, ALLOCATED, READS_ZERO] = [0x00ff_ffff_ffff_fe00n, 1n << 63n, 1n];
const SECTOR = 512n;
/** A flag of a VMDK. */
const PACKED_GRAINS = 0x10000;
/** The last sector that counts as a place. */
const LAST_PLACE = 2n ** 48n;

/** The index of a table's last entry that is not 0; -1: there is none. @param bits of an entry */
function lastEntry(table: Buffer, bits: number): number {
  const byte = table.findLastIndex((value) => value !== 0);
  if (byte < 0) return -1;
  if (bits >= 8) return Math.floor(byte / (bits / 8));
  // Smaller entries begin with the lowest bits of a byte.
  const highest = 31 - Math.clz32(table[byte] ?? 0);
  return byte * (8 / bits) + Math.floor(highest / bits);
}

/** The tables that map a disk: one of places of tables, each of which has places of clusters. */
interface ClusterMap {
  /** The place of the first table, and the number of its entries. */
  readonly at: bigint;
  readonly count: bigint;
  /** The number of entries of each of the others; undefined: there is only the first one. */
  readonly innerCount?: bigint;
  readonly readEntry: (table: Buffer, at: number) => bigint;
  /** Bytes of an entry, and of one in an inner table. */
  readonly length: number;
  readonly innerLength?: number;
  /** The place of the inner table of an entry; undefined: there is none. */
  readonly tableOf?: (entry: bigint) => bigint | undefined;
  /** The place of the cluster of an entry; undefined: there is none. */
  readonly clusterOf: (entry: bigint) => bigint | undefined;
}

const greater = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** The end of the first byte of the last cluster that a table names; 0: it names none. */
function lastOf(table: Buffer, length: number, { readEntry, clusterOf }: ClusterMap): bigint {
  let last = 0n;
  for (let at = 0; at + length <= table.length; at += length) {
    const place = clusterOf(readEntry(table, at));
    if (place !== undefined && place >= last) last = place + 1n;
  }
  return last;
}

/** A range of a file. */
interface Run {
  readonly at: bigint;
  readonly length: bigint;
}

/** The runs of tables of `size` bytes that follow each other, the last ones in the file first. */
function runsOf(places: readonly bigint[], size: bigint): readonly Run[] {
  const runs: Run[] = [];
  for (const at of [...new Set(places)].sort((a, b) => (a < b ? -1 : 1))) {
    const run = runs.at(-1);
    if (run !== undefined && run.at + run.length === at && run.length + size <= BigInt(MAX_RUN))
      runs[runs.length - 1] = { at: run.at, length: run.length + size };
    else runs.push({ at, length: size });
  }
  return runs.reverse();
}

/** The bytes that must be there for all clusters to begin, as far as 8 MiB of the tables and some reads say. */
async function mapped(file: DiskReader, map: ClusterMap): Promise<bigint | undefined> {
  const { at, count, innerCount, readEntry, length, innerLength = length, tableOf } = map;
  if (count === 0n || count * BigInt(length) > BigInt(MAX_TABLE)) return undefined;
  const first = await readWithin(file, at, Number(count) * length);
  if (first.length === 0) return at + count * BigInt(length);
  if (tableOf === undefined || innerCount === undefined) return lastOf(first, length, map);
  const places = Array.from({ length: Number(count) }, (_, i) => tableOf(readEntry(first, i * length)));
  const found = places.filter((place) => place !== undefined);
  let needed = 0n;
  let left = BigInt(MAX_TABLE);
  // In most formats the tables that come last name the clusters that do.
  for (const run of runsOf(found, innerCount * BigInt(innerLength)).slice(0, MOST_READS)) {
    left -= run.length;
    if (left < 0n) break;
    const inner = await readWithin(file, run.at, Number(run.length));
    needed = greater(needed, inner.length === 0 ? run.at + run.length : lastOf(inner, innerLength, map));
  }
  return needed;
}

const bigEndian64 = (table: Buffer, at: number): bigint => table.readBigUInt64BE(at);
const littleEndian32 = (table: Buffer, at: number): bigint => BigInt(table.readUInt32LE(at));
/** Quotient, rounded up. */
const quotient = (a: bigint, b: bigint): bigint => (a + b - 1n) / b;
const unlessZero = (value: bigint): bigint | undefined => (value === 0n ? undefined : value);

/** The map of a qcow of version 1, whose clusters may be compressed. */
function qcowMap(head: Buffer): ClusterMap | undefined {
  if (head.length < 48) return undefined;
  const [clusterBits, innerBits] = [BigInt(head.readUInt8(32)), BigInt(head.readUInt8(33))];
  if (clusterBits < 9n || clusterBits > 16n || innerBits < 6n || innerBits > 13n) return undefined;
  const packed = 1n << 63n;
  return {
    at: head.readBigUInt64BE(40),
    count: quotient(head.readBigUInt64BE(24), 1n << (clusterBits + innerBits)),
    innerCount: 1n << innerBits,
    readEntry: bigEndian64,
    length: 8,
    tableOf: unlessZero,
    clusterOf: (entry) =>
      unlessZero((entry & packed) === 0n ? entry : entry & ((1n << (63n - clusterBits)) - 1n)),
  };
}

/** The map of a qcow2 whose clusters are in a data file. */
function dataFileMap(head: Buffer): ClusterMap | undefined {
  if (head.length < HEADER_LENGTH) return undefined;
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) return undefined;
  const innerLength = (head.readBigUInt64BE(72) & EXTENDED_L2) === 0n ? 8 : 16;
  return {
    at: head.readBigUInt64BE(40),
    count: BigInt(head.readUInt32BE(36)),
    innerCount: BigInt(2 ** clusterBits / innerLength),
    readEntry: bigEndian64,
    length: 8,
    innerLength,
    tableOf: (entry) => unlessZero(entry & PLACE_BITS),
    clusterOf: (entry) =>
      (entry & ALLOCATED) === 0n || (entry & READS_ZERO) !== 0n ? undefined : entry & PLACE_BITS,
  };
}

/** The map of a sparse VMDK; undefined of a compressed one, whose missing grains QEMU reports. */
function vmdkMap(head: Buffer): ClusterMap | undefined {
  if (head.length < 80 || head.toString('latin1', 0, 4) !== 'KDMV') return undefined;
  const [flags, grain, innerCount] = [head.readUInt32LE(8), head.readBigUInt64LE(20), head.readUInt32LE(44)];
  const directory = head.readBigUInt64LE(56);
  const isOdd = grain === 0n || innerCount === 0 || innerCount > 2 ** 16 || directory > LAST_PLACE;
  if ((flags & PACKED_GRAINS) !== 0 || isOdd) return undefined;
  // A place of 1 stands for zeros.
  const placeOf = (entry: bigint): bigint | undefined => (entry <= 1n ? undefined : entry * SECTOR);
  return {
    at: directory * SECTOR,
    count: quotient(head.readBigUInt64LE(12), grain * BigInt(innerCount)),
    innerCount: BigInt(innerCount),
    readEntry: littleEndian32,
    length: 4,
    tableOf: placeOf,
    clusterOf: placeOf,
  };
}

function parallelsMap(head: Buffer): ClusterMap | undefined {
  if (head.length < 64) return undefined;
  // The newer kind counts clusters.
  const unit = head.toString('latin1', 0, 16) === 'WithouFreSpacExt' ? BigInt(head.readUInt32LE(28)) : 1n;
  return {
    at: 64n,
    count: BigInt(head.readUInt32LE(32)),
    readEntry: littleEndian32,
    length: 4,
    clusterOf: (entry) => unlessZero(entry * unit * SECTOR),
  };
}

/** The bytes of its data file that a qcow2 uses; undefined where its tables do not say it. */
export async function neededOfDataFile(file: DiskReader, head: Buffer): Promise<bigint | undefined> {
  const map = dataFileMap(head);
  return map === undefined ? undefined : mapped(file, map);
}

/** The begin of the last cluster that a qcow2 uses; undefined where its tables do not say it. */
async function lastCluster(file: DiskReader, head: Buffer): Promise<bigint | undefined> {
  if (head.length < HEADER_LENGTH) return undefined;
  const isOld = head.readUInt32BE(4) === 2;
  const features = isOld ? 0n : head.readBigUInt64BE(72);
  const [clusterBits, order] = [head.readUInt32BE(20), isOld ? 4 : head.readUInt32BE(96)];
  if ((features & (DIRTY | DATA_FILE)) !== 0n || clusterBits < 9 || clusterBits > 21 || order > 6)
    return undefined;
  const mapEnd = head.readBigUInt64BE(40) + BigInt(head.readUInt32BE(36)) * 8n;
  if (mapEnd > file.size) return mapEnd;
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

/** The bytes that an image must have; undefined where its tables do not say it, or QEMU reports the missing bytes. */
async function neededOf(file: DiskReader, format: string, head: Buffer): Promise<bigint | undefined> {
  // The last cluster of a qcow2 may end early.
  if (format === 'qcow2') return lastCluster(file, head);
  if (format === 'vdi') return lastBlock(head);
  const map = MAPS[format]?.(head);
  return map === undefined ? undefined : mapped(file, map);
}

const MAPS: Readonly<Record<string, (head: Buffer) => ClusterMap | undefined>> = {
  qcow: qcowMap,
  vmdk: vmdkMap,
  parallels: parallelsMap,
};

/**
 * A line for the user about an image that ends before its last byte; undefined: it does not.
 * @param shown printable
 * @param format nbdfuse's name or QEMU's
 */
export async function truncationOf(
  shown: string,
  format: string,
  head: Buffer,
  file: DiskReader,
): Promise<string | undefined> {
  return truncationLine(shown, await neededOf(file, format, head), file.size);
}

/** The same for a file that must have `needed` bytes. */
export function truncationLine(shown: string, needed: bigint | undefined, size: bigint): string | undefined {
  if (needed === undefined || needed <= size) return undefined;
  return (
    `${shown} seems to be cut short: it has ${size} bytes, and uses bytes at ${needed}; ` +
    'those that are missing read as zeros: get it again, or check it with qemu-img check'
  );
}
