// Whether a server is far: whether its READs wait for the way more than for the bytes. Pure.
//
// What a READ takes says little while others are under way: 1 MiB each, by twos, take a millisecond from a
// server next door. So what the bytes may have taken that came and went meanwhile is not counted; and of READs
// that were under way together one counts, where the way was most of it. Once the server is known to be far
// and is read ahead of, only a READ that was alone, or that took no time at all, can tell that it is not.

/** Milliseconds of way from which on a server is far. */
const FAR = 0.8;

/** Milliseconds that a byte may take: 2.8 GiB come in a second where nothing is in the way. */
const PER_BYTE = 0.35 / (1024 * 1024);

/** Bytes that come meanwhile and make nobody wait. */
const LITTLE = 64 * 1024;

/** Milliseconds of way that READs in a row must have had, the last ones all of them. */
const ENOUGH = 8;

/** Milliseconds that one of them counts for at most: anything can be late once. */
const MOST = 4;

/** What one counts for that was not alone. */
const IN_COMPANY = 1 / 4;

/** What is known of a READ from when it was submitted: milliseconds, and bytes moved both ways by then. */
interface Timed {
  readonly submittedAt: number;
  readonly movedBefore: number;
  readonly length: number;
}

/** See the file's head. */
export class Latency {
  /** Whether its way is what a READ waits for. */
  remote = false;
  #waited = 0;
  /** When the one was answered that counted last: those that were under way then say nothing new. */
  #countedAt = Number.NEGATIVE_INFINITY;

  /** A READ is answered at `now`, when `movedByNow` bytes have been moved, its own among them. */
  answered({ submittedAt, movedBefore, length }: Timed, now: number, movedByNow: number): void {
    const moved = movedByNow - movedBefore;
    const took = now - submittedAt;
    const way = took - moved * PER_BYTE;
    const alone = moved <= length + LITTLE;
    if (way < FAR) {
      if (this.remote && !alone && took >= FAR) return;
      this.remote = false;
      this.#waited = 0;
    } else if (!this.remote && submittedAt >= this.#countedAt && (alone || way > took / 2)) {
      this.#countedAt = now;
      this.#waited += Math.min(way, MOST) * (alone ? 1 : IN_COMPANY);
      this.remote = this.#waited >= ENOUGH;
    }
  }
}
