// Fetches units that nobody has asked for: the whole image, or those that an earlier mount asked for first.

import { UNIT } from '../contract/units.js';
import { AHEAD, type BACKGROUND, DEMAND, type Priority, TRACE } from '../schedule/tasks.js';
import type { Reader } from './reader.js';

/** Milliseconds between two looks. */
const INTERVAL = 20;
/** Milliseconds of a rate that may be saved up. */
const BURST = 1000;
/** How often a unit is fetched that is not kept: the memory or the cache file may be too small for its chunk. */
const MOST_FETCHES = 4;

/** What to fetch. */
export interface PrefetchOptions {
  readonly reader: Reader;
  readonly priority: typeof TRACE | typeof BACKGROUND;
  /** The units in their order. */
  readonly units: Iterator<number, undefined>;
  /** Bytes a second; undefined: no limit. */
  readonly rate: number | undefined;
  /** How many units may be on their way at the same time. */
  readonly parallel: number;
  /** Whether there is still room for fetched units. */
  readonly hasRoom: () => boolean;
  readonly onEnd: () => void;
}

/** The priorities that go before. */
const before = (priority: Priority): readonly Priority[] =>
  ([DEMAND, AHEAD, TRACE] as const).filter((other) => other < priority);

/** Starts to fetch. @returns a function that stops it */
export function startPrefetch(options: PrefetchOptions): () => void {
  const { reader, priority, units, rate, parallel, hasRoom, onEnd } = options;
  const isThere = (unit: number): boolean =>
    priority === TRACE ? reader.isSettled(unit) : reader.isSaved(unit);
  let budget = 0;
  let last = performance.now();
  /** Units on their way, and how often they were begun. */
  const pending = new Map<number, number>();

  function stop(): void {
    clearInterval(timer);
    reader.stop(priority);
  }

  function refill(): void {
    const now = performance.now();
    if (rate !== undefined)
      budget = Math.min(budget + ((now - last) / 1000) * rate, Math.max((rate * BURST) / 1000, UNIT));
    last = now;
  }

  /** The next unit that is not there; undefined: there is none. */
  function next(): number | undefined {
    for (;;) {
      const { value } = units.next();
      if (value === undefined || !isThere(value)) return value;
    }
  }

  function again(unit: number, fetches: number): void {
    if (reader.isOnItsWay(unit)) return;
    if (fetches === MOST_FETCHES) {
      pending.delete(unit);
      return;
    }
    pending.set(unit, fetches + 1);
    reader.fetch(unit, priority);
  }

  function look(): void {
    refill();
    for (const unit of pending.keys()) if (isThere(unit)) pending.delete(unit);
    if (before(priority).some((other) => reader.isBusy(other))) return;
    // Requests again the units that the reader gave up for something more urgent.
    for (const [unit, fetches] of pending) again(unit, fetches);
    while (pending.size < parallel && (rate === undefined || budget >= UNIT)) {
      const unit = hasRoom() ? next() : undefined;
      if (unit === undefined) {
        if (pending.size > 0) return;
        clearInterval(timer);
        onEnd();
        return;
      }
      if (rate !== undefined) budget -= UNIT;
      pending.set(unit, 1);
      reader.fetch(unit, priority);
    }
  }

  const timer = setInterval(look, INTERVAL);
  return stop;
}
