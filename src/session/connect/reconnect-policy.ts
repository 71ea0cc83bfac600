// When to try to reconnect, and when to stop making requests wait: decisions only. Pure.
//
// Used by reconnect.ts, one policy a file. Times are milliseconds of any clock that does not jump;
// the caller passes them in and does the waiting.

/** Pause before the second attempt in a row; it doubles from there. */
const FIRST_PAUSE = 100;
/** Longest pause, before jitter. */
const LONGEST_PAUSE = 5000;
/** A pause is lengthened or shortened by up to this share, so that many clients do not come at once. */
const JITTER = 0.25;
/** A connection that lived shorter than this does not count as a recovery. */
const STABLE_TIME = 1000;

/** The state of one file's reconnecting. */
export class ReconnectPolicy {
  readonly #limit: number;
  readonly #random: () => number;
  #attempts = 0;
  #recovering = false;
  #connectedAt = Number.NEGATIVE_INFINITY;
  #outageAt = Number.POSITIVE_INFINITY;

  /**
   * @param limit milliseconds that requests may wait for a server: 0 not at all, Infinity forever
   * @param random gives a number from 0 to 1, exclusive, as Math.random does
   */
  constructor(limit: number, random: () => number) {
    this.#limit = limit;
    this.#random = random;
  }

  /**
   * A connection is lost. A loss soon after connecting goes on with the pauses and the time limit of the
   * one before, and so does that of a connection that was of no use, however long it lasted: a server
   * that accepts connections and drops them, breaks the protocol on each, or answers nothing, is neither
   * hurried nor waited for without end.
   * @param last whether no other is left
   * @param madeProgress whether it answered something, or was asked nothing and broke no rule
   */
  lost(now: number, last: boolean, madeProgress: boolean): void {
    const stable = madeProgress && now - this.#connectedAt >= STABLE_TIME;
    if (stable && !this.#recovering) this.#attempts = 0;
    this.#recovering = true;
    if (last && (stable || this.#outageAt === Number.POSITIVE_INFINITY)) this.#outageAt = now;
  }

  /** A connection was made. */
  connected(now: number): void {
    this.#recovering = false;
    this.#connectedAt = now;
  }

  /** Milliseconds to pause before the next attempt, which is counted: none before the first. */
  nextPause(): number {
    const attempt = this.#attempts++;
    if (attempt === 0) return 0;
    const pause = Math.min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE);
    return Math.round(pause * (1 + JITTER * (2 * this.#random() - 1)));
  }

  /** Since when there is no server that is of use; Infinity before the first loss. */
  get outageAt(): number {
    return this.#outageAt;
  }

  /** The time from which requests fail instead of waiting; Infinity when they wait forever. */
  get expiresAt(): number {
    return this.#outageAt + this.#limit;
  }
}
