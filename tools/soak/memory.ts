// The memory of a process over time: the peak during the warm-up, and the peak afterwards.
//
// Pure; used by run.ts, which takes the samples.

/**
 * Milliseconds of the warm-up, in which memory may grow: nbdfuse allocates buffers at their first use, and
 * keeps them.
 */
const WARM_UP = 5 * 60_000;

/** Share by which memory may grow after warming up. */
const GROWTH = 0.2;

/** The limit in MiB at any time: unflushed writes take up to 128, and requests in flight about as much. */
const LIMIT = 512;

/** The verdicts. Only a run longer than the warm-up shows growth. */
export type MemoryVerdict = 'steady' | 'growing' | 'too much' | 'within its limit';

/** See the file's head. */
export class Memory {
  /** MiB: the peak during the warm-up, and since then. */
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

  /** Whether the memory is within the limits. */
  get good(): boolean {
    return this.verdict === 'steady' || this.verdict === 'within its limit';
  }
}
