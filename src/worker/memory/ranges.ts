// Ranges of a disk's bytes, in any order and overlapping: how many bytes they cover, and which.
//
// Used at the end of a worker, for what could not be written. Not for the hot path.

interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

/** See the file's head. */
export class Ranges {
  #ranges: Range[] = [];
  #isMerged = true;

  add(start: bigint, length: number): void {
    this.#ranges.push({ start, end: start + BigInt(length) });
    this.#isMerged = false;
  }

  /** Bytes covered, each counted once. */
  get bytes(): number {
    return this.#merged().reduce((sum, { start, end }) => sum + Number(end - start), 0);
  }

  /** The first `most` of the ranges, joined where they meet: `offset 0 length 512`. */
  texts(most: number): string[] {
    return this.#merged()
      .slice(0, most)
      .map(({ start, end }) => `offset ${start} length ${end - start}`);
  }

  #merged(): readonly Range[] {
    if (this.#isMerged) return this.#ranges;
    const sorted = this.#ranges.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    const merged: Range[] = [];
    for (const range of sorted) {
      const last = merged.at(-1);
      if (last === undefined || range.start > last.end) merged.push(range);
      else if (range.end > last.end) merged[merged.length - 1] = { start: last.start, end: range.end };
    }
    this.#ranges = merged;
    this.#isMerged = true;
    return merged;
  }
}
