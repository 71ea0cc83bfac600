// The GUID partition table, for sectors of 512 or 4096 bytes. Layout: UEFI specification, chapter 5.
//
// A table counts only as a whole: its header and its entries have checksums. Where the one at the disk's beginning is
// damaged, the backup in the disk's last sector takes its place, as for the programs of Linux.

import { crc32 } from './crc32.js';
import { type MbrEntry, PROTECTIVE } from './mbr.js';
import { type DiskReader, type Partition, PartitionError, type PartitionTable, readWithin } from './table.js';

const SIGNATURE = 'EFI PART';
const MIN_HEADER = 92;
const MIN_ENTRY = 128;
const MAX_ENTRY = 4096;
/** Maximum bytes of all entries, as in Linux. */
const MAX_ENTRIES = 4 * 1024 * 1024;
const NO_TYPE = '00000000-0000-0000-0000-000000000000';
/** The length in an MBR that is too long for it. */
const UNKNOWN_LENGTH = 0xffffffffn;

/** The sizes that a table may be made for, in bytes. */
const SECTOR_SIZES = [512, 4096];

/** A GUID at byte `at`: its first three groups are little-endian. */
function guidAt(bytes: Buffer, at: number): string {
  const group = (start: number, end: number): Buffer => bytes.subarray(at + start, at + end);
  const turned = (start: number, end: number): string =>
    Buffer.from(group(start, end)).reverse().toString('hex');
  const parts = [turned(0, 4), turned(4, 6), turned(6, 8)];
  return [...parts, group(8, 10).toString('hex'), group(10, 16).toString('hex')].join('-');
}

function labelAt(bytes: Buffer, at: number): string {
  return bytes.toString('utf16le', at, at + 72).replace(/\0.*$/s, '');
}

/** The defect of a header that does not count. */
interface Damage {
  readonly damage: string;
}

/** A header with right checksums, and its entries. */
interface Gpt {
  readonly entries: Buffer;
  readonly entrySize: number;
}

/** The header at a sector. @param sectorSize in bytes */
async function gptAt(disk: DiskReader, sectorSize: number, place: bigint): Promise<Gpt | Damage> {
  const sector = BigInt(sectorSize);
  const last = disk.size / sector - 1n;
  const header = await readWithin(disk, place * sector, sectorSize);
  if (header.toString('latin1', 0, 8) !== SIGNATURE) return { damage: 'no header' };
  const length = header.readUInt32LE(12);
  if (length < MIN_HEADER || length > sectorSize) return { damage: 'length of the header' };
  const bare = Buffer.from(header.subarray(0, length));
  bare.fill(0, 16, 20);
  if (crc32(bare) !== header.readUInt32LE(16)) return { damage: 'checksum of the header' };
  if (header.readBigUInt64LE(24) !== place) return { damage: 'place of the header' };
  const [first, end] = [header.readBigUInt64LE(40), header.readBigUInt64LE(48)];
  if (first > last || end > last) return { damage: 'made for a larger disk' };
  if (end < first) return { damage: 'range of the partitions' };
  const [count, entrySize] = [header.readUInt32LE(80), header.readUInt32LE(84)];
  const isSize = entrySize >= MIN_ENTRY && entrySize <= MAX_ENTRY && (entrySize & (entrySize - 1)) === 0;
  if (!isSize || count === 0 || count * entrySize > MAX_ENTRIES) return { damage: 'number of entries' };
  const entries = await readWithin(disk, header.readBigUInt64LE(72) * sector, count * entrySize);
  if (entries.length === 0) return { damage: 'place of the entries' };
  if (crc32(entries) !== header.readUInt32LE(88)) return { damage: 'checksum of the entries' };
  return { entries, entrySize };
}

function partitionsOf({ entries, entrySize }: Gpt, sectorSize: number, diskSize: bigint): Partition[] {
  const sector = BigInt(sectorSize);
  const sectors = diskSize / sector;
  const found: Partition[] = [];
  for (let at = 0; at < entries.length; at += entrySize) {
    const type = guidAt(entries, at);
    const [first, last] = [entries.readBigUInt64LE(at + 32), entries.readBigUInt64LE(at + 40)];
    if (type === NO_TYPE || first >= sectors || last >= sectors) continue;
    found.push({
      number: at / entrySize + 1,
      offset: first * sector,
      size: (last - first + 1n) * sector,
      type,
      label: labelAt(entries, at + 56),
      uuid: guidAt(entries, at + 16),
    });
  }
  return found;
}

/** The sizes of sectors, the likelier one first: an MBR protects all sectors of a disk but its own. */
function sectorSizes(disk: DiskReader, mbr: readonly MbrEntry[]): readonly number[] {
  const isProtected = (size: number): boolean => {
    const sectors = disk.size / BigInt(size) - 1n;
    return mbr.some(
      ({ type, length }) => type === PROTECTIVE && length === sectors && length < UNKNOWN_LENGTH,
    );
  };
  return [...SECTOR_SIZES].sort((a, b) => Number(isProtected(b)) - Number(isProtected(a)));
}

/** The partitions of a disk whose MBR protects a GPT. @throws PartitionError when both copies are damaged */
export async function gptTable(disk: DiskReader, mbr: readonly MbrEntry[]): Promise<PartitionTable> {
  const damages: string[] = [];
  for (const size of sectorSizes(disk, mbr)) {
    const lastSector = disk.size / BigInt(size) - 1n;
    const primary = await gptAt(disk, size, 1n);
    const gpt = 'damage' in primary ? await gptAt(disk, size, lastSector) : primary;
    if ('damage' in primary) damages.push(primary.damage);
    if ('damage' in gpt) continue;
    const warning =
      gpt === primary
        ? undefined
        : `the GPT at the beginning of the disk is damaged (${damages.at(-1)}): using the backup at the end; ` +
          'fdisk or gdisk can repair it';
    const partitions = partitionsOf(gpt, size, disk.size);
    return { kind: 'GPT', partitions, extended: [], warning };
  }
  const damage = damages.find((one) => one !== 'no header') ?? 'no header';
  throw new PartitionError(
    `the GPT of the disk is damaged (${damage}), and there is no good backup at the disk's end: ` +
      'mount the whole disk, and repair it with gdisk or testdisk',
  );
}
