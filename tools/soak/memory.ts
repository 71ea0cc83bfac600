// The memory of a process over time: how much it was when it had warmed up, and the most afterwards.
//
// Pure; used by run.ts, which samples. Kept as one figure a part, so that it costs the same for an hour.

/** Milliseconds in which memory may grow: buffers are made when they are first needed, and kept. */
const WARM_UP = 5 * 60_000;

/** Share by which memory may grow after warming up. */
const GROWTH = 0.2;

/** MiB that are too many at any time: writes to remember take 128 of them, and data under way the like. */
const LIMIT = 512;

/** The verdicts: growth shows only in runs that are longer than the warming up. */
export type MemoryVerdict = 'steady' | 'growing' | 'too much' | 'within its limit';

/** See the file's head. */
export class Memory {
  /** MiB: the most while warming up, and since then. */
  warm = 0;
  later = 0;

  /** @param at milliseconds since the start */
  sample(mebibytes: number, at: number): void {
    if (at > WARM_UP) this.later = Math.max(this.later, mebibytes);
    else this.warm = Math.max(this.warm, mebibytes);
  }

  get verdict(): MemoryVerdict {
    if (Math.max(this.warm, this.later) > LIMIT) return 'too much';
    if (this.later === 0) return 'within its limit';
    return this.later <= this.warm * (1 + GROWTH) ? 'steady' : 'growing';
  }

  /** Whether nothing is wrong with it. */
  get good(): boolean {
    return this.verdict === 'steady' || this.verdict === 'within its limit';
  }
}
