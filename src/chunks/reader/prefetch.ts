// Fetches units that nobody has asked for: the whole image, or those that an earlier mount asked for first.

import type { UnitFile } from '../contract/cache.js';
import { UNIT } from '../contract/units.js';
import { AHEAD, type BACKGROUND, DEMAND, type Priority, TRACE } from '../schedule/tasks.js';
import type { Reader } from './reader.js';

/** Milliseconds between two looks; a unit that comes causes one, too. */
const INTERVAL = 20;
/** Milliseconds of a rate that may be saved up. */
const BURST = 1000;
/** How often a unit is fetched that is not kept: the memory or the cache file may be too small for its chunk. */
const MOST_FETCHES = 4;

/** Milliseconds without fetches after the server below was lost. */
const PAUSE = 1000;

/** What to fetch. */
export interface PrefetchOptions {
  readonly reader: Reader;
  readonly priority: typeof TRACE | typeof BACKGROUND;
  /** The units in their order. */
  readonly units: Iterator<number, undefined>;
  /** Bytes a second; undefined: no limit. */
  readonly rate: number | undefined;
  /** How many chunks may be on their way at the same time. */
  readonly parallel: number;
  /** The cache file that is to get the units; undefined: memory is enough. */
  readonly file: Pick<UnitFile, 'isBehind' | 'leftOut'> | undefined;
  /** Whether there is room for so many bytes of units that are on their way. */
  readonly roomFor: (bytes: number) => Room;
  /** @param isFull whether units are left for which there is no room */
  readonly onEnd: (isFull: boolean) => void;
}

/** `later`: it depends on units that have not reached the disk. */
export type Room = 'yes' | 'no' | 'later';

/** Units that one look passes over because they are there: an image may have thousands of millions. */
const MOST_STEPS = 65_536;
/** Most units on their way, of any number of chunks. */
const MOST_PENDING = 128;

/**
 * The priorities that a prefetch waits for. Readers will soon want the units of a trace: they are fetched beside those
 * that readers wait for, in the places that those leave.
 */
const before = (priority: typeof TRACE | typeof BACKGROUND): readonly Priority[] =>
  priority === TRACE ? [] : [DEMAND, AHEAD, TRACE];

/** A prefetch that runs. */
class Prefetch {
  readonly #options: PrefetchOptions;
  /** Bytes of the rate that have not been used, and when that was counted. */
  #budget = 0;
  #counted = performance.now();
  /** Units on their way, and how often they were begun. */
  readonly #pending = new Map<number, number>();
  /** The losses of the reader that are known, and the end of the pause after the last one. */
  #losses: number;
  #pauseEnd = 0;
  /** The units that the cache file is known to have left out. */
  #leftOut: number;
  readonly #timer: NodeJS.Timeout;
  #soon: NodeJS.Immediate | undefined;

  constructor(options: PrefetchOptions) {
    this.#options = options;
    this.#losses = options.reader.losses;
    this.#leftOut = options.file?.leftOut ?? 0;
    this.#timer = setInterval(() => this.#look(), INTERVAL);
    options.reader.onSettled.add(this.#lookSoon);
  }

  stop(): void {
    this.#end();
    this.#options.reader.stop(this.#options.priority);
  }

  #end(): void {
    clearInterval(this.#timer);
    if (this.#soon !== undefined) clearImmediate(this.#soon);
    this.#options.reader.onSettled.delete(this.#lookSoon);
  }

  readonly #lookSoon = (): void => {
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined;
      this.#look();
    });
  };

  #look(): void {
    const { reader, priority } = this.#options;
    this.#refill();
    for (const unit of this.#pending.keys()) if (this.#isThere(unit)) this.#pending.delete(unit);
    if (this.#isPaused() || this.#isFileBehind() || before(priority).some((other) => reader.isBusy(other)))
      return;
    // Requests again the units that the reader gave up for something more urgent.
    for (const [unit, fetches] of this.#pending) this.#again(unit, fetches);
    this.#begin();
  }

  /** A fetch that fails because of a loss does not count: nothing is wrong with its unit. */
  #isPaused(): boolean {
    const { losses } = this.#options.reader;
    const now = performance.now();
    if (losses !== this.#losses) {
      this.#losses = losses;
      this.#pauseEnd = now + PAUSE;
      for (const unit of this.#pending.keys()) this.#pending.set(unit, 0);
    }
    return now < this.#pauseEnd;
  }

  /** Neither does one whose unit the cache file has left out. */
  #isFileBehind(): boolean {
    const { isBehind, leftOut } = this.#options.file ?? { isBehind: false, leftOut: 0 };
    if (leftOut !== this.#leftOut) for (const unit of this.#pending.keys()) this.#pending.set(unit, 0);
    this.#leftOut = leftOut;
    return isBehind;
  }

  #begin(): void {
    const { reader, priority, rate } = this.#options;
    while (this.#hasPlace() && (rate === undefined || this.#budget >= UNIT)) {
      const room = this.#options.roomFor((this.#pending.size + 1) * UNIT);
      if (room === 'later') return;
      const unit = room === 'yes' ? this.#next() : undefined;
      if (unit === 'later') {
        this.#lookSoon();
        return;
      }
      if (unit === undefined) {
        if (this.#pending.size === 0) this.#finish(room === 'no');
        return;
      }
      if (rate !== undefined) this.#budget -= UNIT;
      this.#pending.set(unit, 1);
      reader.fetch(unit, priority);
    }
  }

  #finish(isFull: boolean): void {
    this.#end();
    // Units that are there need no room.
    this.#options.onEnd(isFull && this.#next() !== undefined);
  }

  #isThere(unit: number): boolean {
    const { reader, priority } = this.#options;
    return priority === TRACE ? reader.isSettled(unit) : reader.isSaved(unit);
  }

  #refill(): void {
    const { rate } = this.#options;
    const now = performance.now();
    if (rate !== undefined)
      this.#budget = Math.min(
        this.#budget + ((now - this.#counted) / 1000) * rate,
        Math.max((rate * BURST) / 1000, UNIT),
      );
    this.#counted = now;
  }

  /** The next unit that is not there; undefined: there is none; `later`: none has been found yet. */
  #next(): number | 'later' | undefined {
    for (let step = 0; step < MOST_STEPS; step++) {
      const { value } = this.#options.units.next();
      if (value === undefined || !this.#isThere(value)) return value;
    }
    return 'later';
  }

  #again(unit: number, fetches: number): void {
    const { reader, priority } = this.#options;
    if (reader.isOnItsWay(unit)) return;
    if (fetches === MOST_FETCHES || this.#options.roomFor(this.#pending.size * UNIT) === 'no') {
      this.#pending.delete(unit);
      return;
    }
    this.#pending.set(unit, fetches + 1);
    reader.fetch(unit, priority);
  }

  /** Whether one more unit may be on its way: those of a chunk come together. */
  #hasPlace(): boolean {
    const { reader, parallel } = this.#options;
    if (this.#pending.size < parallel) return true;
    const chunks = new Set<number>();
    for (const unit of this.#pending.keys()) chunks.add(reader.map.chunkOf(unit).first);
    return chunks.size < parallel && this.#pending.size < MOST_PENDING;
  }
}

/** Starts to fetch. @returns a function that stops it */
export function startPrefetch(options: PrefetchOptions): () => void {
  const prefetch = new Prefetch(options);
  return () => prefetch.stop();
}
