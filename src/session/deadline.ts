// A deadline for asynchronous work.

import { type Clock, systemClock } from './clock.js';

/** The result of waiting for a promise. */
export type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'failed'; readonly error: unknown }
  | { readonly kind: 'late' };

/** See the file's head. */
export class Deadline {
  readonly #clock: Clock;
  readonly #at: number;
  readonly #hurry: AbortSignal | undefined;

  /**
   * @param milliseconds from now
   * @param hurry aborting it brings the deadline forward to that moment
   */
  constructor(milliseconds: number, hurry?: AbortSignal, clock: Clock = systemClock) {
    this.#clock = clock;
    this.#at = clock.now() + milliseconds;
    this.#hurry = hurry;
  }

  /** Milliseconds that are left, 0 or more. */
  get remaining(): number {
    return this.#hurry?.aborted ? 0 : Math.max(this.#at - this.#clock.now(), 0);
  }

  /** Waits for a promise until the deadline minus `reserve` milliseconds; never rejects. */
  async outcomeOf<T>(promise: Promise<T>, reserve = 0): Promise<Outcome<T>> {
    const over = new AbortController();
    const signals = this.#hurry === undefined ? [over.signal] : [over.signal, this.#hurry];
    const settled = promise.then(
      (value): Outcome<T> => ({ kind: 'done', value }),
      (error: unknown): Outcome<T> => ({ kind: 'failed', error }),
    );
    const late = this.#clock
      .wait(Math.max(this.remaining - reserve, 0), AbortSignal.any(signals))
      .then((): Outcome<T> => ({ kind: 'late' }));
    const outcome = await Promise.race([settled, late]);
    over.abort();
    return outcome;
  }
}
