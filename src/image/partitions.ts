// Finds a partition in the table at a disk's beginning: GPT, or MBR with its extended partitions.
//
// Numbers are those of Linux: 1 to 4 are the primary ones of an MBR, logical ones begin with 5, and a GPT's are its
// entries. Reads through a function, so that it knows neither files nor servers; every
// count that the disk names is bounded. Layouts: UEFI specification, chapter 5.

import { ImageError } from './errors.js';

/** A partition of a disk. */
export interface Partition {
  readonly number: number;
  /** In bytes. */
  readonly offset: bigint;
  readonly size: bigint;
}

/** A disk to read. */
export interface DiskReader {
  readonly size: bigint;
  /** Reads a range within the disk. */
  read(offset: bigint, length: number): Promise<Buffer>;
}

const MBR_SECTOR = 512;
const MBR_TABLE = 446;
const MBR_ENTRY = 16;
const GPT_SIGNATURE = 'EFI PART';
const GPT_PROTECTIVE = 0xee;
const EXTENDED_TYPES = [0x05, 0x0f, 0x85];
/** Sizes of sectors that a GPT may be made for. */
const SECTOR_SIZES = [512, 4096];
const MAX_GPT_ENTRIES = 1024;
const MAX_GPT_ENTRY = 4096;
const MAX_LOGICAL = 128;
/** Maximum number of tables of logical partitions, including empty ones. */
const MAX_TABLES = 1024;

interface MbrEntry {
  readonly type: number;
  /** In sectors. */
  readonly start: bigint;
  readonly length: bigint;
}

/** The four entries of a sector; undefined when it has no signature. */
function mbrEntries(sector: Buffer): readonly MbrEntry[] | undefined {
  if (sector.length < MBR_SECTOR || sector.readUInt16LE(510) !== 0xaa55) return undefined;
  return [0, 1, 2, 3].map((i) => {
    const at = MBR_TABLE + i * MBR_ENTRY;
    const [start, length] = [sector.readUInt32LE(at + 8), sector.readUInt32LE(at + 12)];
    return { type: sector[at + 4], start: BigInt(start), length: BigInt(length) };
  });
}

function partition(number: number, sector: bigint, first: bigint, count: bigint): Partition {
  return { number, offset: first * sector, size: count * sector };
}

async function readWithin(disk: DiskReader, offset: bigint, length: number): Promise<Buffer> {
  if (offset < 0n || offset + BigInt(length) > disk.size) return Buffer.alloc(0);
  return disk.read(offset, length);
}

async function gptPartitions(disk: DiskReader): Promise<Partition[] | undefined> {
  for (const sectorSize of SECTOR_SIZES) {
    const header = await readWithin(disk, BigInt(sectorSize), MBR_SECTOR);
    if (header.toString('latin1', 0, 8) !== GPT_SIGNATURE) continue;
    const count = Math.min(header.readUInt32LE(80), MAX_GPT_ENTRIES);
    const entrySize = header.readUInt32LE(84);
    if (entrySize < 128 || entrySize > MAX_GPT_ENTRY) return [];
    const sector = BigInt(sectorSize);
    const table = await readWithin(disk, header.readBigUInt64LE(72) * sector, count * entrySize);
    const found: Partition[] = [];
    for (let i = 0; (i + 1) * entrySize <= table.length; i++) {
      const entry = table.subarray(i * entrySize, (i + 1) * entrySize);
      if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
      const [first, last] = [entry.readBigUInt64LE(32), entry.readBigUInt64LE(40)];
      found.push(partition(i + 1, sector, first, last - first + 1n));
    }
    return found;
  }
  return undefined;
}

/** The logical partitions: a chain of tables, each with one partition and the place of the next table. */
async function logicalPartitions(disk: DiskReader, base: bigint): Promise<Partition[]> {
  const found: Partition[] = [];
  const seen = new Set<bigint>();
  let table = base;
  while (found.length < MAX_LOGICAL && seen.size < MAX_TABLES && !seen.has(table)) {
    seen.add(table);
    const entries = mbrEntries(await readWithin(disk, table * BigInt(MBR_SECTOR), MBR_SECTOR));
    if (entries === undefined) break;
    const [own, next] = entries;
    if (own.type !== 0 && own.length > 0n) {
      found.push(partition(5 + found.length, BigInt(MBR_SECTOR), table + own.start, own.length));
    }
    if (!EXTENDED_TYPES.includes(next.type)) break;
    table = base + next.start;
  }
  return found;
}

/** All partitions of a disk. @throws ImageError when it has no partition table; the errors of `read` */
export async function readPartitions(disk: DiskReader): Promise<readonly Partition[]> {
  const entries = mbrEntries(await readWithin(disk, 0n, MBR_SECTOR));
  if (entries === undefined) throw new ImageError('the disk has no partition table');
  if (entries.some(({ type }) => type === GPT_PROTECTIVE)) {
    const found = await gptPartitions(disk);
    if (found !== undefined) return found;
  }
  const found: Partition[] = [];
  for (const [i, { type, start, length }] of entries.entries()) {
    if (type === 0 || length === 0n) continue;
    if (EXTENDED_TYPES.includes(type)) found.push(...(await logicalPartitions(disk, start)));
    else found.push(partition(i + 1, BigInt(MBR_SECTOR), start, length));
  }
  return found.sort((a, b) => a.number - b.number);
}

/** @throws ImageError when there is no such partition, or it is not within the disk */
export async function findPartition(disk: DiskReader, wanted: number): Promise<Partition> {
  const all = await readPartitions(disk);
  const found = all.find(({ number }) => number === wanted);
  if (found === undefined) {
    const numbers = all.map(({ number }) => number).join(', ');
    throw new ImageError(`the disk has no partition ${wanted}: it has ${numbers === '' ? 'none' : numbers}`);
  }
  if (found.size <= 0n || found.offset + found.size > disk.size) {
    throw new ImageError(`partition ${wanted} is not within the disk of ${disk.size} bytes`);
  }
  return found;
}
