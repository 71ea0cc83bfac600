// The LSEEKs of one file that wait until the kernel has written its dirty pages back.
//
// Owned by a Disk, driven by the engine. One writeback runs at a time. An LSEEK that arrives during a writeback waits
// for the next one, since the current one may have missed the latest writes.

import type { FuseRequest } from '../flight/fuse-request.js';
import { assert } from '../memory/assert.js';

/** See the file's head. */
export class PendingLseeks {
  /** Whether the last writeback failed: the kernel may have dirty pages. */
  failed = false;
  #current: readonly FuseRequest[] = [];
  #next: FuseRequest[] = [];

  /** Whether a writeback is due or in progress. */
  get any(): boolean {
    return this.#current.length > 0;
  }

  /** Adds a request. Returns whether the caller must begin a writeback. */
  wait(request: FuseRequest): boolean {
    if (this.any) {
      this.#next.push(request);
      return false;
    }
    this.#current = [request];
    return true;
  }

  /** Returns the requests that waited for the writeback that has ended. If `any` is true, the next one must begin. */
  sent(good: boolean): readonly FuseRequest[] {
    assert(this.any, 'the kernel sends its cached writes only for a pending lseek');
    const done = this.#current;
    this.#current = this.#next;
    this.#next = [];
    this.failed = !good;
    return done;
  }
}
