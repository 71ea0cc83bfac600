// The LSEEKs of one file that wait until the kernel has sent the writes that it still holds.
//
// Owned by a Disk, driven by the Engine. The kernel sends one of them at a time, but who is freed by a signal
// leaves the sending behind. One is under way at a time: who asks while it is cannot know whether it has
// already passed by what was written since, and waits for the next.

import type { FuseRequest } from '../flight/fuse-request.js';

/** See the file's head. */
export class PendingLseeks {
  /** Whether the last sending did not come to its end: the kernel may hold anything. */
  failed = false;
  #served: readonly FuseRequest[] = [];
  #later: FuseRequest[] = [];

  /** Whether a sending is wanted, or under way. */
  get any(): boolean {
    return this.#served.length > 0;
  }

  /** Lets one wait. Returns whether a sending is to begin for it. */
  wait(request: FuseRequest): boolean {
    if (this.any) {
      this.#later.push(request);
      return false;
    }
    this.#served = [request];
    return true;
  }

  /** A sending has ended: returns who waited for it. If `any` still holds, another is to begin. */
  sent(good: boolean): readonly FuseRequest[] {
    const served = this.#served;
    this.#served = this.#later;
    this.#later = [];
    this.failed = !good;
    return served;
  }
}
