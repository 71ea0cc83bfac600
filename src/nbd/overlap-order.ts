// The order of requests whose byte ranges overlap: first come, first served. Pure.
//
// The worker and the Promise client each drive one OverlapOrder: it decides which request may start, and which ones
// when another leaves. A plain change allocates nothing in it.

import { overlaps } from './byte-range.js';

/** Access: a READ. It waits for changes that have started, and no request waits for it. */
export const ACCESS_READ = 0;
/** Access: a change that may run together with other shared ones. */
export const ACCESS_SHARED = 1;
/** Access: a change that no other may overlap. */
export const ACCESS_EXCLUSIVE = 2;

/** A request and its bytes [rangeStart, rangeEnd), one or more. */
export interface OrderedRequest {
  /** `ACCESS_*`. */
  readonly access: number;
  readonly rangeStart: bigint | number;
  readonly rangeEnd: bigint | number;
}

/** Whether a request must not run together with a change. */
function conflict(request: OrderedRequest, change: OrderedRequest): boolean {
  if (request.access === ACCESS_SHARED && change.access === ACCESS_SHARED) return false;
  return overlaps(request.rangeStart, request.rangeEnd, change.rangeStart, change.rangeEnd);
}

/** The usual result of `leave`, made once. */
const NONE: readonly never[] = [];

/** See the file's head. */
export class OverlapOrder<R extends OrderedRequest> {
  readonly #started: R[] = [];
  #waiting: R[] = [];

  /** The changes that have started and not left, in no order. */
  get started(): readonly R[] {
    return this.#started;
  }

  /** The requests that wait, in the order of their arrival. */
  get waiting(): readonly R[] {
    return this.#waiting;
  }

  /** Adds a request. True: it may start. False: it waits; a `leave` returns it at its turn. */
  enter(request: R): boolean {
    const mayStart = this.#mayStart(request, this.#waiting);
    if (!mayStart) this.#waiting.push(request);
    else if (request.access !== ACCESS_READ) this.#started.push(request);
    return mayStart;
  }

  /** Removes a change that has started. Returns the requests that may start now. */
  leave(change: R): readonly R[] {
    const at = this.#started.indexOf(change);
    if (at < 0)
      throw new Error('internal error: a change leaves the order of overlapping requests before its turn');
    this.#started[at] = this.#started[this.#started.length - 1];
    this.#started.pop();
    return this.#waiting.length === 0 ? NONE : this.#grant();
  }

  /** Removes all requests that wait, and returns them. */
  takeWaiting(): readonly R[] {
    const all = this.#waiting;
    this.#waiting = [];
    return all;
  }

  #grant(): R[] {
    const granted: R[] = [];
    const waiting: R[] = [];
    for (const request of this.#waiting) {
      if (!this.#mayStart(request, waiting)) waiting.push(request);
      else {
        granted.push(request);
        if (request.access !== ACCESS_READ) this.#started.push(request);
      }
    }
    this.#waiting = waiting;
    return granted;
  }

  /** @param ahead waiting requests that came earlier */
  #mayStart(request: R, ahead: readonly R[]): boolean {
    for (const change of this.#started) if (conflict(request, change)) return false;
    if (request.access === ACCESS_READ) return true;
    for (const other of ahead) if (other.access !== ACCESS_READ && conflict(request, other)) return false;
    return true;
  }
}
