// The byte ranges of one READ that out-of-order chunks have answered.
//
// Owned by the reply receiver, which makes one only if chunks arrive out of order.

/** Most separate ranges of one reply. An honest server needs far fewer. */
const MAX_RUNS = 4096;

/** A set of disjoint byte ranges of one reply, sorted and merged. */
export class Coverage {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /**
   * Adds `[start, end)`. Returns the violated rule, or undefined: chunks must not overlap (proto.md, "Structured reply
   * chunk message"), and a reply may have MAX_RUNS separate ranges.
   */
  add(start: number, end: number): string | undefined {
    let i = 0;
    while (i < this.#starts.length && this.#ends[i] <= start) i++;
    if (i < this.#starts.length && this.#starts[i] < end) return 'overlaps an earlier chunk';
    const joinsBefore = i > 0 && this.#ends[i - 1] === start;
    const joinsAfter = i < this.#starts.length && this.#starts[i] === end;
    if (joinsBefore && joinsAfter) {
      this.#ends[i - 1] = this.#ends[i];
      this.#starts.splice(i, 1);
      this.#ends.splice(i, 1);
    } else if (joinsBefore) this.#ends[i - 1] = end;
    else if (joinsAfter) this.#starts[i] = start;
    else {
      if (this.#starts.length >= MAX_RUNS) return `is in more than ${MAX_RUNS} separate pieces`;
      this.#starts.splice(i, 0, start);
      this.#ends.splice(i, 0, end);
    }
    return undefined;
  }
}
