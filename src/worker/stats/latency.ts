// Whether a server is remote: whether READs wait for the network's latency rather than for the transfer. Pure.
//
// The duration of a READ says little while others are in flight: two READs of 1 MiB take a millisecond on a local
// server. So the estimate subtracts the transfer time of all bytes moved meanwhile. Of READs in flight together, one
// counts. Read-ahead keeps READs in flight, so it takes a lone or a fast READ to turn a remote server local again.

/** Latency in milliseconds from which a server is remote. */
const REMOTE = 0.8;

/** Assumed transfer time in milliseconds per byte: 2.8 GiB/s, as over a Unix socket. */
const PER_BYTE = 0.35 / (1024 * 1024);

/** A READ is alone if at most this many bytes were moved besides its own. */
const LITTLE = 64 * 1024;

/** Sum of latencies in milliseconds, over READs in a row, that makes a server remote. */
const ENOUGH = 8;

/** Most milliseconds that one READ adds to the sum: a single reply may be late. */
const MOST = 4;

/** Weight of a READ that was not alone. */
const IN_COMPANY = 1 / 4;

/** A READ at its submission: time in milliseconds, and bytes moved in both directions until then. */
interface Timed {
  readonly submittedAt: number;
  readonly movedBefore: number;
  readonly length: number;
}

/** See the file's head. */
export class Latency {
  /** Whether the server is remote. */
  remote = false;
  #waited = 0;
  /** Time of the last reply that counted. READs submitted before it add nothing. */
  #countedAt = Number.NEGATIVE_INFINITY;

  /** Enters a READ that is answered at `now`, with `movedByNow` bytes moved in total, its own included. */
  answered({ submittedAt, movedBefore, length }: Timed, now: number, movedByNow: number): void {
    const moved = movedByNow - movedBefore;
    const took = now - submittedAt;
    const way = took - moved * PER_BYTE;
    const alone = moved <= length + LITTLE;
    if (way < REMOTE) {
      if (this.remote && !alone && took >= REMOTE) return;
      this.remote = false;
      this.#waited = 0;
    } else if (!this.remote && submittedAt >= this.#countedAt && (alone || way > took / 2)) {
      this.#countedAt = now;
      this.#waited += Math.min(way, MOST) * (alone ? 1 : IN_COMPANY);
      this.remote = this.#waited >= ENOUGH;
    }
  }
}
