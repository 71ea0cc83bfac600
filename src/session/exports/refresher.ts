// Decides when to list the exports again, and how long to wait for the list.
//
// Owned by the ExportDirectoryKeeper. Never rejects. It asks a slow or unreachable server less and less often, so that
// programs do not wait for it each time.

import type { Clock } from '../clock.js';

/** Minimum milliseconds from one list to the next, and the maximum for a slow server. */
const INTERVAL = 1000;
const LONGEST_INTERVAL = 30_000;
/** Milliseconds that a reader of the directory waits for a new list; then it gets the old one. */
const PATIENCE = 3000;

/** See the file's head. */
export class Refresher {
  readonly #clock: Clock;
  readonly #list: () => Promise<void>;
  #running: Promise<void> | undefined;
  #startedAt = 0;
  #endedAt = Number.NEGATIVE_INFINITY;
  #interval = INTERVAL;

  /** @param list loads a list and puts it to use; rejects when that fails */
  constructor(clock: Clock, list: () => Promise<void>) {
    this.#clock = clock;
    this.#list = list;
  }

  /** A list has just been loaded by other means. */
  fresh(): void {
    this.#endedAt = this.#clock.now();
    this.#interval = INTERVAL;
  }

  /** Resolves when the list is new enough, or does not arrive in time. */
  async want(): Promise<void> {
    const now = this.#clock.now();
    if (this.#running === undefined) {
      if (now - this.#endedAt < this.#interval) return;
      this.#startedAt = now;
      this.#running = this.#refresh();
    }
    const patience = this.#startedAt + PATIENCE - now;
    if (patience <= 0) return;
    const enough = new AbortController();
    await Promise.race([this.#running, this.#clock.wait(patience, enough.signal)]);
    enough.abort();
  }

  async #refresh(): Promise<void> {
    let inTime = false;
    try {
      await this.#list();
      inTime = this.#clock.now() - this.#startedAt < PATIENCE;
    } catch {
      // The old list stays; `list` reports why.
    }
    this.#interval = inTime ? INTERVAL : Math.min(this.#interval * 2, LONGEST_INTERVAL);
    this.#endedAt = this.#clock.now();
    this.#running = undefined;
  }
}
