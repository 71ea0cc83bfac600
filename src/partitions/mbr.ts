// The partition table of an MBR, with its chains of logical partitions, numbered as Linux numbers them.
//
// An entry counts by its size: its type may be 0. Primary partitions have the numbers of their entries. Logical ones
// have the numbers from 5 on, in the order of the chains, of which each extended partition has one. A link of a chain
// may have its entries in any order, and up to four partitions. Those of a BSD in a primary partition come last. Sectors
// have 512 bytes, as on every image in Linux: an MBR does not say for which sectors it was made.

import { bsdAreas } from './bsd.js';
import { type DiskReader, type Partition, type PartitionTable, readWithin } from './table.js';

const SECTOR = 512;
const TABLE = 446;
const ENTRY = 16;
const SIGNATURE_AT = 510;
const DISK_ID = 440;
/** Type of the entry that protects a GPT. */
export const PROTECTIVE = 0xee;
const EXTENDED_TYPES = [0x05, 0x0f, 0x85];
/** The first entries of a link are taken as they are; Linux ignores the other ones where they are not plausible. */
const PLAIN_ENTRIES = 2;
const FIRST_LOGICAL = 5;
/** Linux numbers fewer partitions than this. */
const MAX_NUMBER = 256;
/** Maximum number of links without a partition, one after the other. */
const MAX_EMPTY_LINKS = 100;

/** An entry; in sectors, from the sector that the entry's place implies. */
export interface MbrEntry {
  readonly type: number;
  readonly start: bigint;
  readonly length: bigint;
}

/** A range in sectors. */
type Area = Pick<MbrEntry, 'start' | 'length'>;

/**
 * The entries of an MBR of which one protects a GPT; undefined: none does. As in Linux, the first bytes of the entries
 * do not matter to a GPT; where they are odd, the sector may be the boot sector of a file system.
 */
export function protectedEntries(sector: Buffer): readonly MbrEntry[] | undefined {
  if (!hasSignature(sector)) return undefined;
  const isTable = mbrEntries(sector) !== undefined;
  const entries = entriesOf(sector);
  const isProtected = entries.some(({ type, start }) => type === PROTECTIVE && (isTable || start === 1n));
  return isProtected ? entries : undefined;
}

/** The four entries of a sector; undefined when it is no table: it may be the boot sector of a file system. */
export function mbrEntries(sector: Buffer): readonly MbrEntry[] | undefined {
  if (!hasSignature(sector)) return undefined;
  const places = [0, 1, 2, 3].map((i) => TABLE + i * ENTRY);
  if (places.some((at) => sector[at] !== 0 && sector[at] !== 0x80)) return undefined;
  return entriesOf(sector);
}

function hasSignature(sector: Buffer): boolean {
  return sector.length >= SECTOR && sector.readUInt16LE(SIGNATURE_AT) === 0xaa55;
}

function entriesOf(sector: Buffer): readonly MbrEntry[] {
  return [0, 1, 2, 3].map((i) => {
    const at = TABLE + i * ENTRY;
    const [start, length] = [sector.readUInt32LE(at + 8), sector.readUInt32LE(at + 12)];
    return { type: sector[at + 4], start: BigInt(start), length: BigInt(length) };
  });
}

const isExtended = ({ type, length }: MbrEntry): boolean => length > 0n && EXTENDED_TYPES.includes(type);
const isData = ({ type, length }: MbrEntry): boolean => length > 0n && !EXTENDED_TYPES.includes(type);
const endOf = ({ start, length }: Area): bigint => start + length;

/** Reads the chains of a disk, and numbers what they contain. */
class Chains {
  readonly found: Partition[] = [];
  readonly #disk: DiskReader;
  readonly #id: string;

  /** @param id of the disk */
  constructor(disk: DiskReader, id: string) {
    this.#disk = disk;
    this.#id = id;
  }

  /** The chain of an extended partition: tables with partitions and the place of the next table. */
  async follow(extended: Area): Promise<void> {
    const seen = new Set<bigint>();
    let link: Area = extended;
    for (let empty = 0; empty < MAX_EMPTY_LINKS && !seen.has(link.start); empty++) {
      seen.add(link.start);
      const sector = await readWithin(this.#disk, link.start * BigInt(SECTOR), SECTOR);
      if (!hasSignature(sector)) return;
      const entries = entriesOf(sector);
      for (const [i, entry] of entries.entries()) {
        if (!isData(entry)) continue;
        const area = { ...entry, start: link.start + entry.start };
        const plausible = endOf(entry) <= link.length && isInside(area, extended);
        if (i >= PLAIN_ENTRIES && !plausible) continue;
        if (!this.#add(area)) return;
        empty = -1;
      }
      const next = entries.find(isExtended);
      if (next === undefined) return;
      link = { start: extended.start + next.start, length: next.length };
    }
  }

  /** Adds the partitions of a BSD in a primary one. Their numbers come after those of all chains. */
  async divide(outer: MbrEntry): Promise<void> {
    for (const area of await bsdAreas(this.#disk, outer)) {
      const number = FIRST_LOGICAL + this.found.length;
      if (number < MAX_NUMBER) this.found.push({ ...partition(number, area, this.#id), uuid: '' });
    }
  }

  /** False when there are too many. */
  #add(area: MbrEntry): boolean {
    const number = FIRST_LOGICAL + this.found.length;
    if (number >= MAX_NUMBER) return false;
    this.found.push(partition(number, area, this.#id));
    return true;
  }
}

function isInside(area: Area, outer: Area): boolean {
  return area.start >= outer.start && endOf(area) <= endOf(outer);
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

function partition(number: number, { type, start, length }: MbrEntry, id: string): Partition {
  const sector = BigInt(SECTOR);
  return {
    number,
    offset: start * sector,
    size: length * sector,
    type: `0x${type.toString(16)}`,
    label: '',
    uuid: `${id}-${hex(number, 2)}`,
  };
}

/** The partitions of the MBR in a disk's first sector. */
export async function mbrTable(
  disk: DiskReader,
  sector: Buffer,
  entries: readonly MbrEntry[],
): Promise<PartitionTable> {
  const id = hex(sector.readUInt32LE(DISK_ID), 8);
  const chains = new Chains(disk, id);
  const primary: Partition[] = [];
  const extended: number[] = [];
  for (const [i, entry] of entries.entries()) {
    if (isData(entry)) primary.push(partition(i + 1, entry, id));
    if (!isExtended(entry)) continue;
    extended.push(i + 1);
    await chains.follow(entry);
  }
  for (const entry of entries.filter(isData)) await chains.divide(entry);
  return { kind: 'MBR', partitions: [...primary, ...chains.found], extended, warning: undefined };
}
