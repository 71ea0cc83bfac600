// What has to be taken back when a start fails half-way, or at the end.

/** Steps back, run last in first out. */
export class Cleanup {
  readonly #steps: (() => void | Promise<void>)[] = [];

  /** Registers a step; do so before or at once after what it takes back. */
  add(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  /** Runs all steps, each even if another fails. Returns what was thrown. */
  async run(): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    return failures;
  }
}
