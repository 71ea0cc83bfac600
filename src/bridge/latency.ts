// Whether a server is far: whether its READs wait for the way more than for the bytes. Pure.
//
// What a READ takes says little while others are under way: 1 MiB each, by twos, take a millisecond from a
// server next door. So what the bytes may have taken that came meanwhile is not counted; and once the server
// is known to be far and is read ahead of, only a READ that was alone can tell that it is not.

/** Milliseconds of way from which on a server is far. */
const FAR = 0.8;

/** Milliseconds that a byte may take: 2.5 GiB come in a second where nothing is in the way. */
const PER_BYTE = 0.4 / (1024 * 1024);

/** Bytes that come meanwhile and make nobody wait. */
const LITTLE = 64 * 1024;

/** Milliseconds of way that READs in a row must have had, the last ones all of them. */
const ENOUGH = 8;

/** Milliseconds that one of them counts for at most: anything can be late once. */
const MOST = 4;

/** What one counts for that was not alone. */
const IN_COMPANY = 1 / 4;

/** What is known of a READ from when it was submitted: milliseconds, and bytes received of the server by then. */
interface Timed {
  readonly submittedAt: number;
  readonly receivedBefore: number;
  readonly length: number;
}

/** See the file's head. */
export class Latency {
  /** Whether its way is what a READ waits for. */
  far = false;
  #waited = 0;

  /** A READ is answered at `now`, when `receivedByNow` bytes have been received, its own among them. */
  answered({ submittedAt, receivedBefore, length }: Timed, now: number, receivedByNow: number): void {
    const received = receivedByNow - receivedBefore;
    const way = now - submittedAt - received * PER_BYTE;
    const alone = received <= length + LITTLE;
    if (way < FAR) {
      if (this.far && !alone) return;
      this.far = false;
      this.#waited = 0;
    } else if (!this.far) {
      this.#waited += Math.min(way, MOST) * (alone ? 1 : IN_COMPANY);
      this.far = this.#waited >= ENOUGH;
    }
  }
}
