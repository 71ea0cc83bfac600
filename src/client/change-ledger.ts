// The record of a client's changes that lost connections leave behind. Pure: the caller passes times and processes in.
//
// Owned by ConnectionPool, which asks it before every change and every FLUSH. The invariant, with its reasons in
// docs/internals/invariants.md ("The library"):
//
// 1. The pool sends only requests without effect again after a loss. A change that a lost connection has not answered
//    rejects, since nobody knows whether the server has made it.
// 2. The bytes of such a change are in doubt: the server may still make it. A newer change of these bytes is not sent
//    until there is proof that the old one is over: the end of the server's processes, or the settle time.
// 3. A flush resolves only if its FLUSH covers every change that was answered before it. One that was answered while a
//    connection existed is covered by a FLUSH on that connection. When the last such connection is lost, the server may
//    have forgotten the change, and the flushes in progress, or else the next one, reject. A flush that belongs to its
//    changes, of a write stream or for FUA, is in progress since before the first of them.

import { type ByteRange, overlaps } from '../nbd/byte-range.js';

/** Losses that are remembered one by one. Older ones become one loss. */
const MOST_LOSSES = 64;

/** Ranges of one loss. More become longer ranges, with the bytes between them. */
const MOST_RANGES = 1024;

/** The processes that carry out the changes of a connection. */
export interface ServerProcesses {
  /** Whether all of them have ended. */
  readonly ended: boolean;
  /** Ends the interest in them. */
  release(): void;
}

/** A lost connection with changes that it has not answered. */
interface Loss {
  /** Its place in the order of losses. */
  readonly number: number;
  /** In order, apart from each other. */
  readonly ranges: readonly ByteRange[];
  readonly at: number;
  readonly processes: ServerProcesses | undefined;
}

/** Changes without a FLUSH that were answered while the same connections had been made. */
interface Unflushed {
  /** The number of connections made up to then. */
  readonly born: number;
  /** The number of the last of these changes. */
  last: number;
}

/** Ranges in order; those that touch each other become one. */
function merged(ranges: readonly ByteRange[]): ByteRange[] {
  const sorted = [...ranges].sort((a, b) => (a.start < b.start ? -1 : Number(a.start > b.start)));
  let result: ByteRange[] = [];
  for (const { start, end } of sorted) {
    const last = result.at(-1);
    if (last === undefined || start > last.end) result.push({ start, end });
    else if (end > last.end) result[result.length - 1] = { start: last.start, end };
  }
  while (result.length > MOST_RANGES) {
    const pairs = result;
    result = [];
    for (let at = 0; at < pairs.length; at += 2)
      result.push({ start: pairs[at].start, end: (pairs[at + 1] ?? pairs[at]).end });
  }
  return result;
}

/** Whether one of some ranges, which are in order, has a byte of [start, end). */
function hasByteOf(ranges: readonly ByteRange[], start: bigint, end: bigint): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle].end > start) high = middle;
    else low = middle + 1;
  }
  return low < ranges.length && overlaps(ranges[low].start, ranges[low].end, start, end);
}

/** See the file's head. */
export class ChangeLedger {
  readonly #settleTime: number;
  #losses: Loss[] = [];
  #lossNumber = 0;
  /** The number of connections made so far. */
  #born = 0;
  /** The numbers of the connections that live. */
  readonly #live = new Set<number>();
  /** The number of changes answered so far. */
  #answered = 0;
  /** The oldest first. */
  #unflushed: Unflushed[] = [];
  /** How often answered changes may have been forgotten, and how many of these times a flush has reported. */
  #forgotten = 0;
  #reported = 0;

  /** @param settleTime milliseconds after a loss in which the server has made or dropped its changes; or Infinity */
  constructor(settleTime: number) {
    this.#settleTime = settleTime;
  }

  /** A connection was made. Returns its number. */
  made(): number {
    this.#live.add(++this.#born);
    return this.#born;
  }

  /**
   * A connection is lost.
   * @param changes the ranges of the changes that it has not answered
   * @param processes those that carry these out, if they are known; the ledger releases them
   */
  lost(
    connection: number,
    changes: readonly ByteRange[],
    now: number,
    processes: ServerProcesses | undefined,
  ): void {
    this.#live.delete(connection);
    const oldest = Math.min(...this.#live);
    const kept = this.#unflushed.filter(({ born }) => born >= oldest);
    if (kept.length < this.#unflushed.length) this.#forgotten++;
    this.#unflushed = kept;
    this.#lossNumber++;
    if (changes.length === 0) processes?.release();
    else {
      this.#drop((loss) => this.#isProven(loss, now));
      this.#losses.push({ number: this.#lossNumber, ranges: merged(changes), at: now, processes });
      if (this.#losses.length > MOST_LOSSES) this.#mergeOldest();
    }
  }

  /** Whether any bytes may be in doubt. */
  get hasDoubts(): boolean {
    return this.#losses.length > 0;
  }

  /** Whether a lost change of a byte of [start, end) may still be made. */
  isInDoubt(start: bigint, end: bigint, now: number): boolean {
    const touches = ({ ranges }: Loss): boolean => hasByteOf(ranges, start, end);
    if (!this.#losses.some(touches)) return false;
    this.#drop((loss) => this.#isProven(loss, now));
    return this.#losses.some(touches);
  }

  /** Returns a function to call when the server of all connections lost so far has ended. */
  whenServerEnds(): () => void {
    const last = this.#lossNumber;
    return () => this.#drop(({ number }) => number <= last);
  }

  /** A change without FUA was answered with success. */
  answered(): void {
    this.#answered++;
    const newest = this.#unflushed.at(-1);
    if (newest?.born === this.#born) newest.last = this.#answered;
    else this.#unflushed.push({ born: this.#born, last: this.#answered });
  }

  /** A flush begins, or the changes that one party will flush itself. Returns its ticket for `mustFail`. */
  flushBegins(): number {
    return this.#reported;
  }

  /** Whether a flush must reject, since changes that it should cover may be forgotten. The caller rejects then. */
  mustFail(ticket: number): boolean {
    if (ticket === this.#forgotten) return false;
    this.#reported = this.#forgotten;
    return true;
  }

  /** The highest number of a connection on which a FLUSH covers all answered changes. */
  get coveredBy(): number {
    return this.#unflushed.length === 0 ? this.#born : this.#unflushed[0].born;
  }

  /** A FLUSH is sent. Returns the number of the last change that it covers. */
  flushSent(): number {
    return this.#answered;
  }

  /** The FLUSH that covers the changes up to a number has succeeded. */
  flushed(last: number): void {
    while (this.#unflushed.length > 0 && this.#unflushed[0].last <= last) this.#unflushed.shift();
  }

  /** Releases all processes. No change is sent any more. */
  close(): void {
    this.#drop(() => true);
  }

  #isProven({ at, processes }: Loss, now: number): boolean {
    return now - at >= this.#settleTime || processes?.ended === true;
  }

  #drop(isOver: (loss: Loss) => boolean): void {
    if (this.#losses.length === 0) return;
    const over = this.#losses.filter(isOver);
    this.#losses = this.#losses.filter((loss) => !over.includes(loss));
    for (const { processes } of over) processes?.release();
  }

  /** Merges the two oldest losses. Only the settle time proves the end of both, unless they have the same processes. */
  #mergeOldest(): void {
    const [first, second, ...others] = this.#losses;
    const isSame = first.processes === second.processes;
    first.processes?.release();
    if (!isSame) second.processes?.release();
    const ranges = merged([...first.ranges, ...second.ranges]);
    this.#losses = [{ ...second, ranges, processes: isSame ? second.processes : undefined }, ...others];
  }
}
