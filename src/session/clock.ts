// The session's clock, which tests replace.

import { setTimeout as delay } from 'node:timers/promises';

/** A monotonic clock, in milliseconds. */
export interface Clock {
  now(): number;
  /** Resolves after that time, or as soon as `signal` is aborted; never rejects. */
  wait(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wait: (milliseconds, signal) => delay(milliseconds, undefined, { signal }).catch(() => undefined),
};
