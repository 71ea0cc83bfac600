// The open(2) calls that may still truncate: tells the SETATTR of O_TRUNC from truncate(2).
//
// Owned by Metadata. The kernel sends the same SETATTR without a handle for both. The one of O_TRUNC comes from a
// thread whose OPEN was answered before, while its handle is open.

/** See the file's head. */
export class RecentOpens {
  readonly #threadOf = new Map<number, string>();
  readonly #handlesOf = new Map<string, number[]>();
  #next = 1;

  /** Records the open of a node by a thread. Returns a new handle: never 0, never reused. */
  opened(nodeid: number, pid: number): number {
    const handle = this.#next++;
    const thread = `${nodeid} ${pid}`;
    this.#threadOf.set(handle, thread);
    const handles = this.#handlesOf.get(thread);
    if (handles === undefined) this.#handlesOf.set(thread, [handle]);
    else handles.push(handle);
    return handle;
  }

  /** Whether a SETATTR of size 0 without a handle belongs to an open(2) of this thread. It counts for one SETATTR. */
  truncates(nodeid: number, pid: number): boolean {
    // All threads of other PID namespaces have pid 0, so each must use up only one open.
    const handle = this.#handlesOf.get(`${nodeid} ${pid}`)?.at(-1);
    if (handle === undefined) return false;
    this.released(handle);
    return true;
  }

  /** Records that a handle is closed. */
  released(handle: number): void {
    const thread = this.#threadOf.get(handle);
    if (thread === undefined) return;
    this.#threadOf.delete(handle);
    const others = this.#handlesOf.get(thread)?.filter((other) => other !== handle) ?? [];
    if (others.length > 0) this.#handlesOf.set(thread, others);
    else this.#handlesOf.delete(thread);
  }
}
