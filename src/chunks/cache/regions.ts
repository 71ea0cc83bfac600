// The content of a cache file, in memory: the records of its units, their order of use, and the bytes on disk. Pure.

import { lengthOfUnit, UNIT, unitsOf } from '../contract/units.js';
import {
  checksum,
  emptyRecords,
  PART,
  PARTS,
  REGION_UNITS,
  type Records,
  STORED,
  ZERO,
} from './cache-index.js';

/** A region of 256 units that may have a page of records in FILE.index. */
export interface Region {
  readonly number: number;
  readonly records: Records;
  /** Counts the changes of its records. */
  version: number;
  /** Counts the drops, and when the last one was, in milliseconds. */
  drops: number;
  droppedAt: number;
  /** Whether its page has been written, or is about to be. */
  isUsed: boolean;
}

export const regionOf = (unit: number): number => Math.floor(unit / REGION_UNITS);
const placeOf = (unit: number): number => unit % REGION_UNITS;

/** The records of all units, by region; regions without a unit take no memory. */
export class Regions {
  /** Bytes of the image. */
  readonly size: number;
  /** Units of the image. */
  readonly units: number;
  readonly #regions = new Map<number, Region>();
  /** Units with bytes on disk, the least recently used first; only if somebody needs the order. */
  readonly #order: Set<number> | undefined;
  /** Absent units whose bytes are on disk still. */
  readonly #freed = new Set<number>();
  #count = 0;
  #used = 0;

  /** @param isOrdered whether `leastRecent` is needed */
  constructor(size: number, isOrdered: boolean) {
    this.size = size;
    this.units = unitsOf(size);
    this.#order = isOrdered ? new Set() : undefined;
  }

  /** The number of stored units. */
  get count(): number {
    return this.#count;
  }

  /** Bytes on disk. */
  get used(): number {
    return this.#used;
  }

  /** Whether bytes of absent units are on disk. */
  get hasFreed(): boolean {
    return this.#freed.size > 0;
  }

  all(): Iterable<Region> {
    return this.#regions.values();
  }

  find(region: number): Region | undefined {
    return this.#regions.get(region);
  }

  /** Units of a region. */
  unitsIn(region: number): number {
    return Math.min(REGION_UNITS, this.units - region * REGION_UNITS);
  }

  /** The ranges of bytes of absent units, in rising order: [offset, length]. */
  *absentRanges(): Generator<readonly [number, number]> {
    let at = 0;
    const gapTo = (unit: number): readonly [number, number] => [
      at * UNIT,
      Math.min(unit * UNIT, this.size) - at * UNIT,
    ];
    for (const number of [...this.#regions.keys()].sort((a, b) => a - b)) {
      const { flags } = this.#regions.get(number)?.records ?? emptyRecords();
      for (let i = 0; i < REGION_UNITS; i++) {
        if (flags[i] === 0) continue;
        const unit = number * REGION_UNITS + i;
        if (unit > at) yield gapTo(unit);
        at = unit + 1;
      }
    }
    if (at < this.units) yield gapTo(this.units);
  }

  /** The units that have a record. */
  *stored(): Generator<{ readonly unit: number; readonly isZero: boolean }> {
    for (const { number, records } of this.#regions.values())
      for (const [i, flags] of records.flags.entries())
        if (flags !== 0) yield { unit: number * REGION_UNITS + i, isZero: (flags & ZERO) !== 0 };
  }

  /** Adds a region as FILE.index has it. */
  load(number: number, records: Records): Region {
    const region: Region = { number, records, version: 0, drops: 0, droppedAt: 0, isUsed: true };
    this.#regions.set(number, region);
    for (let i = 0; i < REGION_UNITS; i++) {
      if (records.flags[i] === 0) continue;
      this.#count++;
      if ((records.flags[i] & ZERO) === 0) this.#used += this.lengthOf(number * REGION_UNITS + i);
    }
    return region;
  }

  /** Puts the loaded units in the order of their last use. */
  sortByUse(): void {
    if (this.#order === undefined) return;
    const units: number[] = [];
    for (const { number, records } of this.#regions.values())
      for (let i = 0; i < REGION_UNITS; i++)
        if (records.flags[i] === STORED) units.push(number * REGION_UNITS + i);
    units.sort((a, b) => this.stampOf(a) - this.stampOf(b));
    for (const unit of units) this.#order.add(unit);
  }

  lengthOf(unit: number): number {
    return lengthOfUnit(unit, this.size);
  }

  has(unit: number): boolean {
    return (this.#regions.get(regionOf(unit))?.records.flags[placeOf(unit)] ?? 0) !== 0;
  }

  /** Whether bytes of a stored unit are right. @param from their place in the unit, a multiple of PART */
  isRight(unit: number, from: number, bytes: Uint8Array): boolean {
    const sums = this.#regions.get(regionOf(unit))?.records.sums;
    if (sums === undefined) return false;
    const first = placeOf(unit) * PARTS + from / PART;
    for (let at = 0; at < bytes.length; at += PART)
      if (checksum(bytes.subarray(at, at + PART)) !== sums[first + at / PART]) return false;
    return true;
  }

  stampOf(unit: number): number {
    return this.#regions.get(regionOf(unit))?.records.stamps[placeOf(unit)] ?? 0;
  }

  /** Whether the bytes of an absent unit are on disk. */
  isFreed(unit: number): boolean {
    return this.#freed.has(unit);
  }

  /** Notes a use. @param now in seconds since 1970 @returns the region, if its page has changed by it */
  touch(unit: number, now: number): Region | undefined {
    if (this.#order?.delete(unit)) this.#order.add(unit);
    const region = this.#regions.get(regionOf(unit));
    if (region === undefined || region.records.stamps[placeOf(unit)] === now) return undefined;
    region.records.stamps[placeOf(unit)] = now;
    return region;
  }

  /** Enters a unit whose bytes are in FILE. @param flags STORED, and ZERO for a hole @param sums of its parts */
  store(unit: number, flags: number, sums: Uint32Array, now: number): Region {
    const region = this.#regionFor(unit);
    const place = placeOf(unit);
    if (region.records.flags[place] === 0) this.#count++;
    region.records.flags[place] = flags;
    region.records.sums.set(sums, place * PARTS);
    region.records.stamps[place] = now;
    region.version++;
    const isHole = (flags & ZERO) !== 0;
    const wasFreed = this.#freed.delete(unit);
    if (isHole && wasFreed) this.#used -= this.lengthOf(unit);
    if (!isHole && !wasFreed) this.#used += this.lengthOf(unit);
    if (!isHole) this.#order?.add(unit);
    return region;
  }

  /** Makes a unit absent; its bytes stay on disk until `freed`. @returns the region, if the unit was stored */
  remove(unit: number): Region | undefined {
    const region = this.#regions.get(regionOf(unit));
    const flags = region?.records.flags[placeOf(unit)] ?? 0;
    if (region === undefined || flags === 0) return undefined;
    region.records.flags[placeOf(unit)] = 0;
    region.version++;
    this.#count--;
    this.#order?.delete(unit);
    if ((flags & ZERO) === 0) this.#freed.add(unit);
    return region;
  }

  /** The least recently used units that have `bytes` together, or all. */
  leastRecent(bytes: number): number[] {
    const found: number[] = [];
    let sum = 0;
    for (const unit of this.#order ?? []) {
      if (sum >= bytes) break;
      found.push(unit);
      sum += this.lengthOf(unit);
    }
    return found;
  }

  /** The absent units whose bytes are on disk, in rising order. */
  freedUnits(): number[] {
    return [...this.#freed].sort((a, b) => a - b);
  }

  /** Bytes of an absent unit have reached the disk, and nobody wants them any more. */
  leftOver(unit: number): void {
    if (this.has(unit) || this.#freed.has(unit)) return;
    this.#freed.add(unit);
    this.#used += this.lengthOf(unit);
  }

  /** The bytes of an absent unit have left the disk. */
  freed(unit: number): void {
    if (this.#freed.delete(unit)) this.#used -= this.lengthOf(unit);
  }

  #regionFor(unit: number): Region {
    const number = regionOf(unit);
    const found = this.#regions.get(number);
    if (found !== undefined) return found;
    const records = emptyRecords();
    const region = { number, records, version: 0, drops: 0, droppedAt: 0, isUsed: false };
    this.#regions.set(number, region);
    return region;
  }
}

/** Runs of neighbours: [first, count]. @param units in rising order */
export function* runsOf(units: readonly number[]): Generator<readonly [number, number]> {
  for (let i = 0; i < units.length; ) {
    let end = i + 1;
    while (end < units.length && units[end] === units[end - 1] + 1) end++;
    yield [units[i], end - i];
    i = end;
  }
}
