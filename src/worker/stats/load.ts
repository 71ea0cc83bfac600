// The share of time that a loop is busy, which says whether one thread is enough. Pure.

/** Milliseconds of one measurement. */
const WINDOW = 100;

/** See the file's head. */
export class Load {
  #since: number;
  #waited = 0;

  /** @param now milliseconds, of any clock */
  constructor(now: number) {
    this.#since = now;
  }

  /** Records that the loop was idle for some milliseconds. */
  waited(milliseconds: number): void {
    this.#waited += milliseconds;
  }

  /** The busy share (0 to 1) once per window; undefined in between. */
  share(now: number): number | undefined {
    const length = now - this.#since;
    if (length < WINDOW) return undefined;
    const share = 1 - Math.min(this.#waited / length, 1);
    this.#since = now;
    this.#waited = 0;
    return share;
  }
}
