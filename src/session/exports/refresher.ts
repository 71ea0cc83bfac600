// When to ask a server for its list again, and for how long to wait for it: decisions with a clock.
//
// Owned by the ExportFolder. Never rejects; what the list is, is not its business. A server that takes
// long, or cannot be asked, is asked less and less often, so that nobody waits for it at every turn.

import type { Clock } from '../clock.js';

/** Milliseconds from one list to the next at least, and at most for a server that answers badly. */
const INTERVAL = 1000;
const LONGEST_INTERVAL = 30_000;
/** Milliseconds that who looks into the directory waits for a list; then the old one is shown. */
const PATIENCE = 3000;

/** See the file's head. */
export class Refresher {
  readonly #clock: Clock;
  readonly #list: () => Promise<void>;
  #running: Promise<void> | undefined;
  #startedAt = 0;
  #endedAt = Number.NEGATIVE_INFINITY;
  #interval = INTERVAL;

  /** @param list gets a list and puts it to use; rejects when there is none */
  constructor(clock: Clock, list: () => Promise<void>) {
    this.#clock = clock;
    this.#list = list;
  }

  /** A list was just had by other means. */
  fresh(): void {
    this.#endedAt = this.#clock.now();
    this.#interval = INTERVAL;
  }

  /** Resolves when the list is as new as it needs to be, or cannot be had in time. */
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
      // The old list stays; whoever lists tells why.
    }
    this.#interval = inTime ? INTERVAL : Math.min(this.#interval * 2, LONGEST_INTERVAL);
    this.#endedAt = this.#clock.now();
    this.#running = undefined;
  }
}
