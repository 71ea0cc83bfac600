// The units of an image that are kept in memory: bounded in bytes, the least recently used go first. Pure.
//
// A circular list orders the units by their last use. A hit relinks an entry and allocates nothing.

/** A unit in the list. The head of the list has no bytes. */
interface Entry {
  readonly unit: number;
  readonly bytes: Uint8Array;
  newer: Entry;
  older: Entry;
}

function unlink(entry: Entry): void {
  entry.newer.older = entry.older;
  entry.older.newer = entry.newer;
}

/** Units by their number. */
export class MemoryCache {
  /** Maximum bytes. */
  readonly limit: number;
  readonly #entries = new Map<number, Entry>();
  /** `older` of the head is the newest entry, `newer` of it the oldest. */
  readonly #head: Entry;
  #used = 0;

  /** @param limit maximum bytes; 0: keeps nothing */
  constructor(limit: number) {
    this.limit = limit;
    const head = { unit: -1, bytes: new Uint8Array(0) } as Entry;
    head.newer = head;
    head.older = head;
    this.#head = head;
  }

  /** Bytes of all units that are kept. */
  get used(): number {
    return this.#used;
  }

  /** Whether a unit is kept; this is not a use of it. */
  has(unit: number): boolean {
    return this.#entries.has(unit);
  }

  /** The bytes of a unit, which becomes the most recently used. They must not change. */
  get(unit: number): Uint8Array | undefined {
    const entry = this.#entries.get(unit);
    if (entry === undefined) return undefined;
    unlink(entry);
    this.#link(entry);
    return entry.bytes;
  }

  /** Keeps a unit in place of its former bytes. Bytes that exceed the limit alone are not kept. */
  put(unit: number, bytes: Uint8Array): void {
    this.#remove(unit);
    if (bytes.length > this.limit) return;
    while (this.#used + bytes.length > this.limit) this.#remove(this.#head.newer.unit);
    const entry: Entry = { unit, bytes, newer: this.#head, older: this.#head };
    this.#entries.set(unit, entry);
    this.#link(entry);
    this.#used += bytes.length;
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

  #link(entry: Entry): void {
    entry.newer = this.#head;
    entry.older = this.#head.older;
    entry.older.newer = entry;
    this.#head.older = entry;
  }

  #remove(unit: number): void {
    const entry = this.#entries.get(unit);
    if (entry === undefined) return;
    unlink(entry);
    this.#entries.delete(unit);
    this.#used -= entry.bytes.length;
  }
}
