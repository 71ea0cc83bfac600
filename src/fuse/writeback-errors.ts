// The failed FLUSHes and the losses of a file, for fsync(2): errseq_t of the Linux kernel.
//
// Each open handle learns of an error once, at its next fsync. A handle opened later learns of the last error if no
// handle has before. Pure.

/** See the file's head. */
export class WritebackErrors {
  /** Number of errors. Those that no handle has learned of between count as one. */
  #count = 0;
  /** Number of the last error that a handle has learned of. */
  #seen = 0;
  /** Number of the last error that each open handle has learned of. The kernel's RELEASE removes a handle. */
  readonly #handles = new Map<number, number>();

  /** Number of errors since the file exists. */
  get count(): number {
    return this.#count;
  }

  /** Whether no handle has learned of the last error. */
  get unseen(): boolean {
    return this.#count > this.#seen;
  }

  /** Number of open handles. */
  get handles(): number {
    return this.#handles.size;
  }

  /** Records an error: acknowledged writes may be lost. */
  raise(): void {
    if (!this.unseen) this.#count++;
  }

  /** Adds an open handle. */
  opened(handle: number): void {
    this.#handles.set(handle, this.#seen);
  }

  /** Removes a closed handle. An unknown one is ignored. */
  released(handle: number): void {
    this.#handles.delete(handle);
  }

  /** Whether an fsync through a handle fails; from then on the handle knows the error. */
  take(handle: number): boolean {
    // An unknown handle counts as one that was just opened.
    const known = this.#handles.get(handle);
    const isNew = (known ?? this.#seen) < this.#count;
    if (known !== undefined) this.#handles.set(handle, this.#count);
    this.#seen = this.#count;
    return isNew;
  }
}
