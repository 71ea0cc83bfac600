// The units whose bytes the server below may lose: it has answered a change of them, and no FLUSH since. Pure.

export class UnflushedUnits {
  /** The number of the last change of each unit. */
  readonly #changed = new Map<number, number>();
  /** The number at which all units became unflushed; 0: they are not. */
  #all = 0;
  #last = 0;

  /** The number of the last change that a FLUSH sent now covers. */
  get mark(): number {
    return this.#last;
  }

  has(unit: number): boolean {
    return this.#all > 0 || this.#changed.has(unit);
  }

  /** A change of units is answered. */
  add(first: number, end: number): void {
    this.#last += 1;
    for (let unit = first; unit < end; unit++) this.#changed.set(unit, this.#last);
  }

  /** Somebody else may have changed any unit. */
  addAll(): void {
    this.#all = ++this.#last;
  }

  /** A FLUSH that was sent at `mark` has succeeded. @returns the units that it may have covered; undefined: every one */
  flushed(mark: number): readonly number[] | undefined {
    const covered = [...this.#changed.keys()].filter((unit) => (this.#changed.get(unit) ?? 0) <= mark);
    for (const unit of covered) this.#changed.delete(unit);
    const coversAll = this.#all > 0 && this.#all <= mark;
    if (coversAll) this.#all = 0;
    return coversAll ? undefined : covered;
  }
}
