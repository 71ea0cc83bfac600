// How many remembered bytes are worth a FLUSH of our own.
//
// Used by Disk. Few are better for memory, and for the processor, which finds the blocks that are used
// again in its cache; but a server may have to wait for its disk. So it depends on what its FLUSHes take
// beside the time between them. Pure: it is told what the time is.

/** Bytes that are asked for at least, where a FLUSH costs nothing. */
const FEWEST_BYTES = 8 * 1024 * 1024;

/** A FLUSH that takes more than this part of the time since the last one comes too often. */
const TOO_MUCH = 1 / 16;

/** One that takes less than this part may come twice as often. */
const LITTLE = 1 / 64;

/** Milliseconds for which a server that has failed a FLUSH is not asked for another. */
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

  /** @param most bytes after which a FLUSH is due at the latest; 0 for never */
  constructor(most: number) {
    this.#most = most;
    this.#fewest = Math.min(most, FEWEST_BYTES);
    this.#bytes = this.#fewest;
  }

  /** Whether a FLUSH is due with `bytes` remembered, and none under way: it begins now then. */
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
