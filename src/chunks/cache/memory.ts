// The units of an image that are kept in memory, bounded in bytes. Pure.
//
// Units that somebody has asked for, and units that nobody has, as the neighbours of one in its block, have a list each,
// ordered by the last use. The oldest of those that nobody has asked for go first, unless they have less than their part
// of the memory: without that part, reading ahead would evict itself. A hit relinks an entry and allocates nothing.

import { isShared } from '../contract/units.js';

/** The part of the limit that units may fill which nobody has asked for, before those that somebody has asked for go. */
const GUESSED_PART = 0.5;
/** Bytes of memory for which a unit of zeros is counted. */
const COST_OF_ZEROS = 256;

/** A unit in a list. The head of a list has no bytes. */
interface Entry {
  readonly unit: number;
  readonly bytes: Uint8Array;
  newer: Entry;
  older: Entry;
  list: List;
}

/** A circular list: `older` of the head is the newest entry, `newer` of it the oldest. */
interface List {
  readonly head: Entry;
  /** Bytes for which the entries are counted. */
  used: number;
}

function createList(): List {
  const head = { unit: -1, bytes: new Uint8Array(0) } as Entry;
  head.newer = head;
  head.older = head;
  return { head, used: 0 };
}

const costOf = (bytes: Uint8Array): number =>
  isShared(bytes) ? Math.min(COST_OF_ZEROS, bytes.length) : bytes.length;

function unlink(entry: Entry): void {
  entry.newer.older = entry.older;
  entry.older.newer = entry.newer;
  entry.list.used -= costOf(entry.bytes);
}

function link(entry: Entry, list: List): void {
  const { head } = list;
  entry.list = list;
  entry.newer = head;
  entry.older = head.older;
  head.older.newer = entry;
  head.older = entry;
  list.used += costOf(entry.bytes);
}

/** Units by their number. */
export class MemoryCache {
  /** Maximum bytes. */
  readonly limit: number;
  readonly #entries = new Map<number, Entry>();
  readonly #asked = createList();
  readonly #guessed = createList();

  /** @param limit maximum bytes; 0: keeps nothing */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** Bytes of all units that are kept. */
  get used(): number {
    return this.#asked.used + this.#guessed.used;
  }

  /** Whether a unit is kept; this is not a use of it. */
  has(unit: number): boolean {
    return this.#entries.has(unit);
  }

  /** The bytes of a unit, which somebody asks for. They must not change. */
  get(unit: number): Uint8Array | undefined {
    const entry = this.#entries.get(unit);
    if (entry === undefined) return undefined;
    unlink(entry);
    link(entry, this.#asked);
    return entry.bytes;
  }

  /** The bytes of a unit; this is not a use of it. They must not change. */
  peek(unit: number): Uint8Array | undefined {
    return this.#entries.get(unit)?.bytes;
  }

  /**
   * Keeps a unit in place of its former bytes. Bytes that exceed the limit alone are not kept.
   * @param isAsked whether somebody waits for it
   */
  put(unit: number, bytes: Uint8Array, isAsked: boolean): void {
    const wasAsked = this.#entries.get(unit)?.list === this.#asked;
    this.#remove(unit);
    const cost = costOf(bytes);
    if (cost > this.limit) return;
    while (this.used + cost > this.limit) this.#remove(this.#victim);
    const list = isAsked || wasAsked ? this.#asked : this.#guessed;
    const entry = { unit, bytes, list } as Entry;
    this.#entries.set(unit, entry);
    link(entry, list);
  }

  /** Forgets `count` units from `first` on. */
  drop(first: number, count: number): void {
    if (count <= this.#entries.size) {
      for (let unit = first; unit < first + count; unit++) this.#remove(unit);
      return;
    }
    for (const unit of this.#entries.keys()) if (unit >= first && unit < first + count) this.#remove(unit);
  }

  /** The units that are kept, without using them. */
  *entries(): Iterable<readonly [number, Uint8Array]> {
    for (const { unit, bytes } of this.#entries.values()) yield [unit, bytes];
  }

  /** The unit that goes first. */
  get #victim(): number {
    const isGuessed = this.#asked.used === 0 || this.#guessed.used >= this.limit * GUESSED_PART;
    const { head } = isGuessed ? this.#guessed : this.#asked;
    return head.newer.unit;
  }

  #remove(unit: number): void {
    const entry = this.#entries.get(unit);
    if (entry === undefined) return;
    unlink(entry);
    this.#entries.delete(unit);
  }
}
