// How much of its time a loop is at work: whether one thread is enough. Pure.

/** Milliseconds of one look. */
const WINDOW = 100;

/** See the file's head. */
export class Load {
  #since: number;
  #waited = 0;

  /** @param now milliseconds, of any clock */
  constructor(now: number) {
    this.#since = now;
  }

  /** The loop had nothing to do for so many milliseconds. */
  waited(milliseconds: number): void {
    this.#waited += milliseconds;
  }

  /** Which share of its time (0 to 1) the loop was at work, once in a while; undefined in between. */
  share(now: number): number | undefined {
    const length = now - this.#since;
    if (length < WINDOW) return undefined;
    const share = 1 - Math.min(this.#waited / length, 1);
    this.#since = now;
    this.#waited = 0;
    return share;
  }
}
