// Fetches units that nobody has asked for: the whole image, or those that an earlier mount asked for first.

import { UNIT } from '../contract/units.js';
import { AHEAD, type BACKGROUND, DEMAND, type Priority, TRACE } from '../schedule/tasks.js';
import type { Reader } from './reader.js';

/** Milliseconds between two looks. */
const INTERVAL = 20;
/** Milliseconds of a rate that may be saved up. */
const BURST = 1000;

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
  let pending: number[] = [];

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

  function look(): void {
    refill();
    pending = pending.filter((unit) => !isThere(unit));
    if (before(priority).some((other) => reader.isBusy(other))) return;
    // Requests again the units that the reader gave up for something more urgent.
    for (const unit of pending) reader.fetch(unit, priority);
    while (pending.length < parallel && (rate === undefined || budget >= UNIT)) {
      const unit = hasRoom() ? next() : undefined;
      if (unit === undefined) {
        if (pending.length > 0) return;
        clearInterval(timer);
        onEnd();
        return;
      }
      if (rate !== undefined) budget -= UNIT;
      pending.push(unit);
      reader.fetch(unit, priority);
    }
  }

  const timer = setInterval(look, INTERVAL);
  return stop;
}
