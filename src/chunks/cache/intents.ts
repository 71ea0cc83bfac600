// Regions whose units may change behind their records: one byte each in FILE.index.
//
// A write to the export must not reach the server before the cache's record of the old bytes is invalid on stable
// storage. Writing a record for each change would cost a sync each, so one byte covers a region of 64 MiB until its
// records are written anyway. After a crash the records of regions with the byte count as absent.

import type { StoredFile } from './stored-file.js';

interface Order {
  readonly region: number;
  readonly value: 0 | 1;
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

/** Writes the bytes in the order of the calls, several at a time. */
export class Intents {
  readonly #file: StoredFile;
  readonly #offset: number;
  /** Set on stable storage, or about to be. */
  readonly #set = new Map<number, Promise<void> | 'durable'>();
  #orders: Order[] = [];
  #running: Promise<void> | undefined;

  /**
   * @param offset of the first region's byte in `file`
   * @param regions that have their byte already
   */
  constructor(file: StoredFile, offset: number, regions: Iterable<number>) {
    this.#file = file;
    this.#offset = offset;
    for (const region of regions) this.#set.set(region, 'durable');
  }

  get isEmpty(): boolean {
    return this.#set.size === 0;
  }

  /** The regions whose byte is on stable storage. */
  *durable(): Generator<number> {
    for (const [region, state] of this.#set) if (state === 'durable') yield region;
  }

  /** Sets the byte of a region. @returns undefined when it is on stable storage; otherwise resolves then */
  mark(region: number): Promise<void> | undefined {
    const state = this.#set.get(region);
    if (state !== undefined) return state === 'durable' ? undefined : state;
    const marked = new Promise<void>((resolve, reject) => {
      const done = (): void => {
        this.#set.set(region, 'durable');
        resolve();
      };
      const failed = (error: unknown): void => {
        this.#set.delete(region);
        reject(error);
      };
      this.#order({ region, value: 1, done, failed });
    });
    this.#set.set(region, marked);
    return marked;
  }

  /** Clears the byte of a region, which is on stable storage. Needs no sync: a byte too many costs units only. */
  clear(region: number): void {
    this.#set.delete(region);
    const nothing = (): void => undefined;
    this.#order({ region, value: 0, done: nothing, failed: nothing });
  }

  /** Resolves when all orders have been tried. */
  async settle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  #order(order: Order): void {
    this.#orders.push(order);
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    // The other regions of the same change join the first batch.
    await Promise.resolve();
    while (this.#orders.length > 0) {
      const orders = this.#orders;
      this.#orders = [];
      try {
        await this.#write(new Map(orders.map(({ region, value }) => [region, value])));
        if (orders.some(({ value }) => value === 1)) await this.#file.sync();
        for (const { done } of orders) done();
      } catch (error) {
        for (const { failed } of orders) failed(error);
      }
    }
    this.#running = undefined;
  }

  /** Writes runs of neighbours at once. */
  async #write(values: ReadonlyMap<number, 0 | 1>): Promise<void> {
    const regions = [...values.keys()].sort((a, b) => a - b);
    for (let i = 0; i < regions.length; ) {
      let end = i + 1;
      while (end < regions.length && regions[end] === regions[end - 1] + 1) end++;
      const bytes = Uint8Array.from(regions.slice(i, end), (region) => values.get(region) ?? 1);
      await this.#file.write(this.#offset + regions[i], bytes);
      i = end;
    }
  }
}
