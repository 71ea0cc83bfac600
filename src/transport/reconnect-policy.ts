// Decides when to reconnect, and when waiting requests fail. Pure.
//
// Used by src/session, one policy per file, and by src/client, one per client. Times are milliseconds of a monotonic
// clock; the caller passes them in and does the waiting.

/** Pause before the second attempt in a row; it doubles from there. */
const FIRST_PAUSE = 100;
/** Longest pause, before jitter. */
const LONGEST_PAUSE = 5000;
/** Random share of a pause that is added or taken away, so that many clients do not reconnect at once. */
const JITTER = 0.25;
/** A connection that lived shorter than this does not count as a recovery. */
const STABLE_TIME = 1000;

/** The reconnection state of one export. */
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
   * A connection is lost. A loss soon after connecting continues the pauses and the time limit of the loss before it,
   * and so does the loss of a connection that made no progress, however long it lasted. So a server that drops its
   * connections, breaks the protocol on each, or answers nothing gets no rapid retries and no unlimited time.
   * @param last whether no other connection is left
   * @param madeProgress whether it answered a request, or had none and broke no rule
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

  /** Counts the next attempt. Returns the milliseconds to pause before it: 0 for the first. */
  nextPause(): number {
    const attempt = this.#attempts++;
    if (attempt === 0) return 0;
    const pause = Math.min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE);
    return Math.round(pause * (1 + JITTER * (2 * this.#random() - 1)));
  }

  /** The start of the outage; Infinity before the first loss. */
  get outageAt(): number {
    return this.#outageAt;
  }

  /** The time from which requests fail instead of waiting; Infinity when they wait forever. */
  get expiresAt(): number {
    return this.#outageAt + this.#limit;
  }
}
