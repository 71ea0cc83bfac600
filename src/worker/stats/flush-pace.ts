// The number of unflushed bytes at which a background FLUSH is worthwhile.
//
// Used by Disk. A low number saves memory and keeps buffers in the processor's cache, but a FLUSH may make the server
// wait for its disk. So the number follows the share of time that FLUSHes take. Pure: the caller passes the time.

/** Lowest number of bytes, for a server whose FLUSH costs nothing. */
const FEWEST_BYTES = 8 * 1024 * 1024;

/** A FLUSH that takes more than this share of the time since the last one comes too often. */
const TOO_MUCH = 1 / 16;

/** A FLUSH that takes less than this share may come twice as often. */
const LITTLE = 1 / 64;

/** Milliseconds without a background FLUSH after the server has failed one. */
const RESPITE = 1000;

/** See the file's head. */
export class FlushPace {
  readonly #most: number;
  readonly #fewest: number;
  #bytes: number;
  #underWay = false;
  #beganAt = 0;
  #endedAt = Number.NEGATIVE_INFINITY;
  #notBefore = Number.NEGATIVE_INFINITY;

  /** @param most bytes at which a FLUSH is due at the latest; 0: never */
  constructor(most: number) {
    this.#most = most;
    this.#fewest = Math.min(most, FEWEST_BYTES);
    this.#bytes = this.#fewest;
  }

  /** Whether a FLUSH is due with `bytes` unflushed and no FLUSH in flight. If so, it begins at `now`. */
  begins(bytes: number, now: number): boolean {
    if (this.#most === 0 || this.#underWay || bytes < this.#bytes || now < this.#notBefore) return false;
    this.#underWay = true;
    this.#beganAt = now;
    return true;
  }

  /** A FLUSH has ended. */
  ended(now: number, good: boolean): void {
    if (!this.#underWay) return;
    this.#underWay = false;
    if (!good) this.#notBefore = now + RESPITE;
    const took = now - this.#beganAt;
    const between = this.#beganAt - this.#endedAt;
    this.#endedAt = now;
    if (took > between * TOO_MUCH) this.#bytes = Math.min(this.#most, this.#bytes * 2);
    else if (took < between * LITTLE) this.#bytes = Math.max(this.#fewest, this.#bytes / 2);
  }
}
