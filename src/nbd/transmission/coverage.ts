// Which bytes of one READ have been answered by out-of-order chunks.
//
// Owned by the reply receiver, made only for the rare reply whose chunks do not come in order.

/** More separate runs than this in one reply is refused (a server gains nothing by it). */
const MAX_RUNS = 4096;

/** A set of disjoint byte runs of one reply, kept sorted and merged. */
export class Coverage {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /**
   * Adds `[start, end)`. Returns what is wrong with it: it overlaps bytes already answered
   * (proto.md, "Structured reply chunk message": chunks must not overlap), or the reply is in too
   * many pieces. Undefined when it is fine.
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
