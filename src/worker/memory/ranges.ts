// Byte ranges of a disk, in any order and overlapping: their union and its size.
//
// Reports unwritten data when a worker ends. Not for the hot path.

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

  /** Size of the union in bytes. */
  get bytes(): number {
    return this.#merged().reduce((sum, { start, end }) => sum + Number(end - start), 0);
  }

  /** The first `most` ranges of the union, as texts: `offset 0 length 512`. */
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
