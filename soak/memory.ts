// The memory of a process over time: how much it was when it had warmed up, and the most afterwards.
//
// Pure; used by run.ts, which samples. Kept as one figure a part, so that it costs the same for an hour.

/** Share by which memory may grow after warming up. */
const GROWTH = 0.2;

/** See the file's head. */
export class Memory {
  /** MiB: the most while warming up, and since then. */
  warm = 0;
  later = 0;

  sample(mebibytes: number, isWarm: boolean): void {
    if (isWarm) this.later = Math.max(this.later, mebibytes);
    else this.warm = Math.max(this.warm, mebibytes);
  }

  /** Whether it stayed within the bound. */
  get steady(): boolean {
    return this.later <= this.warm * (1 + GROWTH);
  }
}
