// A clock that only the test advances.

import type { Clock } from '../../../src/session/clock.js';

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

export class FakeClock implements Clock {
  #now = 0;
  #sleepers: Sleeper[] = [];

  now(): number {
    return this.#now;
  }

  wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const wake = (): void => {
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      signal?.addEventListener('abort', wake);
      this.#sleepers.push({ at: this.#now + milliseconds, wake });
    });
  }

  /** Advances and wakes sleepers in order; work that they start runs before the next one wakes. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    await settle();
    for (;;) {
      this.#sleepers.sort((a, b) => a.at - b.at);
      const next = this.#sleepers[0];
      if (next === undefined || next.at > end) break;
      this.#sleepers.shift();
      this.#now = next.at;
      next.wake();
      await settle();
    }
    this.#now = end;
  }
}

/** Runs everything that waits only for its turn. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
