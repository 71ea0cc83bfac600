// The order of overlapping changes on a disk: first come, first served.
//
// Owned by a Disk. A change keeps its range until all its commands are resolved, even when its requester is gone.
// Overlapping requests wait: newer changes, and reads, so that no program sees data that may be undone. LostCopies
// handles copies on lost connections. Ranges are doubles, rounded outwards, so beyond 2^53 they are too large at worst.

import { overlaps } from '../../nbd/byte-range.js';
import {
  type FuseRequest,
  ORDER_HOLDS,
  ORDER_NONE,
  ORDER_WAITS,
  REQUEST_READ,
} from '../flight/fuse-request.js';
import { assert, assertSlowly } from '../memory/assert.js';

/** Most rounding error of doubles up to 2^63, in bytes. */
const SLACK = 2048;

function overlap(a: FuseRequest, b: FuseRequest): boolean {
  return overlaps(a.rangeStart, a.rangeEnd, b.rangeStart, b.rangeEnd);
}

/** The usual result of `leave`, made once. */
const NONE: readonly FuseRequest[] = [];

/** See the file's head. */
export class RangeOrder {
  /** Called when the first change begins and when the last one ends. */
  announce: ((isChanging: boolean) => void) | undefined;
  readonly #holders: FuseRequest[] = [];
  #waiting: FuseRequest[] = [];
  #changes = 0;

  /** Whether a change is in progress. */
  get isChanging(): boolean {
    return this.#holders.length > 0;
  }

  /** Requests that wait for overlapping ones. */
  get waiting(): readonly FuseRequest[] {
    return this.#waiting;
  }

  /** Enters a change. False: it waits; a `leave` returns it when its turn comes. */
  enter(request: FuseRequest): boolean {
    assert(request.order === ORDER_NONE, 'a request enters the range order once');
    request.change = ++this.#changes;
    if (this.#mayChange(request, this.#waiting)) {
      this.#hold(request);
      return true;
    }
    request.order = ORDER_WAITS;
    this.#waiting.push(request);
    return false;
  }

  /** Whether a READ may go to the server. False: it waits for overlapping changes; a `leave` returns it. */
  enterRead(request: FuseRequest): boolean {
    if (this.#mayRead(request)) return true;
    request.order = ORDER_WAITS;
    this.#waiting.push(request);
    return false;
  }

  /** Ends a request whose changes are resolved, apart from lost copies. Returns the requests whose turn has come. */
  leave(request: FuseRequest): readonly FuseRequest[] {
    if (request.order === ORDER_NONE) return NONE;
    assert(request.order === ORDER_HOLDS, 'a request does not leave the range order before its turn');
    const at = this.#holders.indexOf(request);
    assert(at >= 0, 'a request that holds a range is in the range order');
    // The order of this array has no meaning.
    this.#holders[at] = this.#holders[this.#holders.length - 1];
    this.#holders.pop();
    request.order = ORDER_NONE;
    if (this.#holders.length === 0) this.announce?.(false);
    return this.#waiting.length === 0 ? NONE : this.#grant();
  }

  /** Fails all waiting requests with `errno` and returns them. */
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
    assertSlowly(() => this.#mayRead(request), 'changes that hold ranges do not overlap');
    request.order = ORDER_HOLDS;
    this.#holders.push(request);
    if (this.#holders.length === 1) this.announce?.(true);
  }

  #mayRead(request: FuseRequest): boolean {
    for (const other of this.#holders) if (overlap(request, other)) return false;
    return true;
  }

  /** @param ahead waiting requests that came earlier */
  #mayChange(request: FuseRequest, ahead: readonly FuseRequest[]): boolean {
    for (const other of this.#holders) if (overlap(request, other)) return false;
    for (const other of ahead) if (other.kind !== REQUEST_READ && overlap(request, other)) return false;
    return true;
  }
}

/** Sets the range of a request: bytes [start, end), rounded out to the disk's blocks. */
export function setRange(request: FuseRequest, start: number, end: number, minimum: number): void {
  const slack = end > Number.MAX_SAFE_INTEGER ? SLACK : 0;
  request.rangeStart = start - (start % minimum) - slack;
  request.rangeEnd = Math.ceil(end / minimum) * minimum + slack;
}
