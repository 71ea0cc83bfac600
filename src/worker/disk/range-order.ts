// The order of overlapping changes of one disk: first come, first served.
//
// Owned by a Disk. A change holds its bytes from its beginning until all of it is resolved, whoever has stopped
// waiting for it. What overlaps waits: newer changes, and reads, so that nobody sees what may be undone. What is still
// to fear of copies that were lost on the way, LostCopies knows. Ranges are doubles and rounded outwards, so that
// beyond 2^53 bytes they are only ever too large.

import { overlaps } from '../../nbd/byte-range.js';
import {
  type FuseRequest,
  ORDER_HOLDS,
  ORDER_NONE,
  ORDER_WAITS,
  REQUEST_READ,
} from '../flight/fuse-request.js';
import { assert } from '../memory/assert.js';

/** Slack in bytes for the rounding of doubles up to 2^63. */
const SLACK = 2048;

function overlap(a: FuseRequest, b: FuseRequest): boolean {
  return overlaps(a.rangeStart, a.rangeEnd, b.rangeStart, b.rangeEnd);
}

/** Nobody may begin: what nearly every `leave` returns, READs' among them, so it is made once. */
const NOBODY: readonly FuseRequest[] = [];

/** See the file's head. */
export class RangeOrder {
  /** Hears when there begins to be a change under way, and when there is none any more. */
  announce: ((isChanging: boolean) => void) | undefined;
  readonly #held: FuseRequest[] = [];
  #waiting: FuseRequest[] = [];
  #changes = 0;

  /** Whether any change is under way. */
  get isChanging(): boolean {
    return this.#held.length > 0;
  }

  /** Requests that wait for others to end. */
  get waiting(): readonly FuseRequest[] {
    return this.#waiting;
  }

  /** Asks for a change's bytes. False: it waits, and is returned by `leave` when its turn has come. */
  enter(request: FuseRequest): boolean {
    assert(request.order === ORDER_NONE, 'a request enters the order once');
    request.change = ++this.#changes;
    if (this.#mayChange(request, this.#waiting)) {
      this.#hold(request);
      return true;
    }
    request.order = ORDER_WAITS;
    this.#waiting.push(request);
    return false;
  }

  /** Whether a READ may go to the server. False: it waits for a change that it overlaps, like a change. */
  enterRead(request: FuseRequest): boolean {
    if (this.#mayRead(request)) return true;
    request.order = ORDER_WAITS;
    this.#waiting.push(request);
    return false;
  }

  /** A request is over, and so is every change of it but for lost copies. Returns those that may begin now. */
  leave(request: FuseRequest): readonly FuseRequest[] {
    if (request.order === ORDER_NONE) return NOBODY;
    assert(request.order === ORDER_HOLDS, 'a request does not end before its turn');
    const at = this.#held.indexOf(request);
    assert(at >= 0, 'a request that holds bytes is in the list');
    // Their order means nothing.
    this.#held[at] = this.#held[this.#held.length - 1];
    this.#held.pop();
    request.order = ORDER_NONE;
    if (this.#held.length === 0) this.announce?.(false);
    return this.#waiting.length === 0 ? NOBODY : this.#grant();
  }

  /** Ends all waiting: returns who has waited, with that error. */
  end(errno: number): readonly FuseRequest[] {
    const all = this.#waiting;
    this.#waiting = [];
    for (const one of all) {
      one.order = ORDER_NONE;
      one.error = errno;
    }
    return all;
  }

  #grant(): FuseRequest[] {
    const granted: FuseRequest[] = [];
    const waiting: FuseRequest[] = [];
    for (const one of this.#waiting) {
      if (one.kind === REQUEST_READ ? !this.#mayRead(one) : !this.#mayChange(one, waiting)) waiting.push(one);
      else {
        granted.push(one);
        if (one.kind === REQUEST_READ) one.order = ORDER_NONE;
        else this.#hold(one);
      }
    }
    this.#waiting = waiting;
    return granted;
  }

  #hold(request: FuseRequest): void {
    request.order = ORDER_HOLDS;
    this.#held.push(request);
    if (this.#held.length === 1) this.announce?.(true);
  }

  #mayRead(request: FuseRequest): boolean {
    for (const other of this.#held) if (overlap(request, other)) return false;
    return true;
  }

  /** @param ahead who waits and came earlier */
  #mayChange(request: FuseRequest, ahead: readonly FuseRequest[]): boolean {
    for (const other of this.#held) if (overlap(request, other)) return false;
    for (const other of ahead) if (other.kind !== REQUEST_READ && overlap(request, other)) return false;
    return true;
  }
}

/** Notes the bytes that a request is about: `length` at (hi, lo), rounded out to the disk's blocks. */
export function setRange(request: FuseRequest, start: number, end: number, minimum: number): void {
  const slack = end > Number.MAX_SAFE_INTEGER ? SLACK : 0;
  request.rangeStart = start - (start % minimum) - slack;
  request.rangeEnd = Math.ceil(end / minimum) * minimum + slack;
}
