// The units that are kept: in memory, and in the cache file where there is one.
//
// Invariant: the cache file gets a unit only if the server below cannot lose its bytes any more: a FLUSH has succeeded
// after the last change of the unit. Until then the unit is in memory at most, and a loss of the server drops it there.

import type { MemoryCache } from '../cache/memory.js';
import type { UnitFile } from '../contract/cache.js';
import { isShared } from '../contract/units.js';
import { assert } from '../schedule/assert.js';
import type { KeptUnits } from './same-disk.js';
import { UnflushedUnits } from './unflushed.js';

/** The units in memory. Comparing them is no use of them. */
const placeOf = (memory: MemoryCache): KeptUnits => ({
  *units() {
    for (const [unit, bytes] of memory.entries()) yield { unit, isZero: isShared(bytes) };
  },
  read: async (unit) => memory.peek(unit),
});

export class Store {
  readonly #memory: MemoryCache;
  readonly #file: UnitFile | undefined;
  /** How many changes of each unit are under way: its bytes are kept nowhere meanwhile. */
  readonly #changing = new Map<number, number>();
  readonly #unflushed = new UnflushedUnits();

  constructor(memory: MemoryCache, file: UnitFile | undefined) {
    this.#memory = memory;
    this.#file = file;
  }

  has(unit: number): boolean {
    return this.#memory.has(unit) || this.#file?.has(unit) === true;
  }

  /** Whether a unit is in the cache file or, where there is none, in memory. */
  isSaved(unit: number): boolean {
    return this.#file === undefined ? this.#memory.has(unit) : this.#file.has(unit);
  }

  /** Whether the cache file has all units. */
  get isComplete(): boolean {
    return this.#file?.isComplete === true;
  }

  /** Writes a unit that is in memory to the cache file, now or after the next FLUSH. False: it is not in memory. */
  save(unit: number): boolean {
    const bytes = this.#memory.peek(unit);
    if (bytes === undefined) return false;
    this.#write(unit, bytes);
    return true;
  }

  #write(unit: number, bytes: Uint8Array): void {
    if (!this.#unflushed.has(unit)) this.#file?.write(unit, bytes);
  }

  isChanging(unit: number): boolean {
    return this.#changing.has(unit);
  }

  /** The bytes of a unit in memory. */
  recent(unit: number): Uint8Array | undefined {
    return this.#memory.get(unit);
  }

  /** The bytes of a unit from `from` up to `to`, if this process has them, or the kernel those of the cache file. */
  now(unit: number, from: number, to: number): Uint8Array | undefined {
    return this.#memory.get(unit)?.subarray(from, to) ?? this.#file?.readNow(unit, from, to);
  }

  /** The bytes of a unit in the cache file, from `from` up to `to`. */
  async saved(unit: number, from: number, to: number): Promise<Uint8Array | undefined> {
    return this.#file?.has(unit) === true ? this.#file.read(unit, from, to) : undefined;
  }

  /** Notes a use of a unit. False: it is not kept. */
  use(unit: number): boolean {
    const isInMemory = this.#memory.get(unit) !== undefined;
    return this.#file?.touch(unit) === true || isInMemory;
  }

  /** Keeps the bytes of a unit, which is not changing. @param isAsked whether somebody waits for it */
  put(unit: number, bytes: Uint8Array, isAsked: boolean): void {
    assert(!this.#changing.has(unit), 'bytes are kept of a unit that is changing');
    this.#memory.put(unit, bytes, isAsked);
    this.#write(unit, bytes);
  }

  /**
   * Forgets units whose bytes begin to change.
   * @returns undefined: they may change; otherwise when it resolves (see `drop` of the cache file)
   */
  beginChange(first: number, end: number): Promise<void> | undefined {
    for (let unit = first; unit < end; unit++) this.#changing.set(unit, (this.#changing.get(unit) ?? 0) + 1);
    this.#memory.drop(first, end - first);
    return this.#file?.drop(first, end - first);
  }

  /** The places that keep units. */
  get places(): readonly KeptUnits[] {
    const memory = placeOf(this.#memory);
    return this.#file === undefined ? [memory] : [memory, this.#file];
  }

  /** Forgets units whose bytes are not those of the image. @returns as `beginChange` */
  forget(first: number, end: number): Promise<void> | undefined {
    this.#memory.drop(first, end - first);
    return this.#file?.drop(first, end - first);
  }

  /** @param isDurable whether the server below cannot lose the change */
  endChange(first: number, end: number, isDurable: boolean): void {
    if (!isDurable) this.#unflushed.add(first, end);
    for (let unit = first; unit < end; unit++) {
      const count = this.#changing.get(unit) ?? 0;
      if (count <= 1) this.#changing.delete(unit);
      else this.#changing.set(unit, count - 1);
    }
  }

  /** Others may have changed units, and the server below may lose that until a FLUSH. */
  distrustAll(): void {
    this.#unflushed.addAll();
  }

  /** The number of the last change that a FLUSH sent now covers. */
  get mark(): number {
    return this.#unflushed.mark;
  }

  /** A FLUSH that was sent at `mark` has succeeded: the cache file takes what it could not take before. */
  flushed(mark: number): void {
    const covered = this.#unflushed.flushed(mark) ?? [...this.#memory.entries()].map(([unit]) => unit);
    for (const unit of covered) this.save(unit);
  }

  /** The server below was lost. @returns a function that tells whether it may have lost the bytes of a unit */
  lost(): (unit: number) => boolean {
    for (const [unit] of [...this.#memory.entries()])
      if (this.#unflushed.has(unit)) this.#memory.drop(unit, 1);
    return (unit) => this.#unflushed.has(unit);
  }
}
