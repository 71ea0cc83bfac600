// Order among writes to the same blocks, on disks whose least request is more than a byte.
//
// A read-modify-write holds its blocks exclusively: it waits for writes to them that are under way,
// and later ones wait for it. First come, first served, so nobody starves. Ranges are doubles and
// rounded outwards, so that beyond 2^53 bytes they are only ever too large.

import type { Operation } from './operation.js';

interface Holder {
  readonly operation: Operation;
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
}

/** Slack in bytes for the rounding of doubles up to 2^63. */
const SLACK = 2048;

function conflict(a: Holder, b: Holder): boolean {
  return (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;
}

/** Nobody may begin: what nearly every `release` returns, READs' among them, so it is made once. */
const NOBODY: readonly Operation[] = [];

/** The locks of one disk. */
export class RangeLocks {
  #held: Holder[] = [];
  #queue: Holder[] = [];
  #exclusive = 0;

  /**
   * Asks for bytes [start, end) on behalf of `operation`. True: granted, until `release`. False: the
   * operation is queued, and `release` returns it when its turn has come.
   */
  acquire(operation: Operation, start: number, end: number, exclusive: boolean): boolean {
    const slack = end > Number.MAX_SAFE_INTEGER ? SLACK : 0;
    const holder = { operation, start: start - slack, end: end + slack, exclusive };
    if (exclusive) this.#exclusive++;
    if (this.#exclusive > 0 && [...this.#held, ...this.#queue].some((other) => conflict(holder, other))) {
      this.#queue.push(holder);
      return false;
    }
    this.#held.push(holder);
    return true;
  }

  /** Whether nobody holds or wants anything. */
  get idle(): boolean {
    return this.#held.length === 0 && this.#queue.length === 0;
  }

  /** Ends an operation's hold, and returns the operations that may begin now. */
  release(operation: Operation): readonly Operation[] {
    const at = this.#placeOf(operation);
    if (at < 0) return NOBODY;
    if (this.#held[at].exclusive) this.#exclusive--;
    // Their order means nothing.
    this.#held[at] = this.#held[this.#held.length - 1];
    this.#held.pop();
    if (this.#queue.length === 0) return NOBODY;
    const waiting = this.#queue;
    const granted: Operation[] = [];
    this.#queue = [];
    for (const holder of waiting) {
      if ([...this.#held, ...this.#queue].some((other) => conflict(holder, other))) this.#queue.push(holder);
      else {
        this.#held.push(holder);
        granted.push(holder.operation);
      }
    }
    return granted;
  }

  #placeOf(operation: Operation): number {
    for (let i = 0; i < this.#held.length; i++) if (this.#held[i].operation === operation) return i;
    return -1;
  }
}
