// Which open(2) may still be about to truncate: tells the SETATTR of O_TRUNC from truncate(2).
//
// Owned by Metadata. The kernel sends both as the same SETATTR without a handle. That of O_TRUNC comes from the
// thread whose OPEN was answered before, while the handle is open, whatever other threads ask for in between.

/** See the file's head. */
export class RecentOpens {
  readonly #threadOf = new Map<number, string>();
  readonly #handlesOf = new Map<string, number[]>();
  #next = 1;

  /** A thread has opened a node. Returns the handle to give to the kernel: never 0, never used twice. */
  opened(nodeid: number, pid: number): number {
    const handle = this.#next++;
    const thread = `${nodeid} ${pid}`;
    this.#threadOf.set(handle, thread);
    const handles = this.#handlesOf.get(thread);
    if (handles === undefined) this.#handlesOf.set(thread, [handle]);
    else handles.push(handle);
    return handle;
  }

  /** Whether a SETATTR of size 0 without a handle belongs to an open(2) of this thread, which it then uses up. */
  truncates(nodeid: number, pid: number): boolean {
    // Threads outside of the mount's PID namespace are all 0, so each uses up no more than its own.
    const handle = this.#handlesOf.get(`${nodeid} ${pid}`)?.at(-1);
    if (handle === undefined) return false;
    this.released(handle);
    return true;
  }

  /** A handle is closed. */
  released(handle: number): void {
    const thread = this.#threadOf.get(handle);
    if (thread === undefined) return;
    this.#threadOf.delete(handle);
    const others = this.#handlesOf.get(thread)?.filter((other) => other !== handle) ?? [];
    if (others.length > 0) this.#handlesOf.set(thread, others);
    else this.#handlesOf.delete(thread);
  }
}
