// Cleanup after a failed start, or at the end of a session.

/** Steps back, run last in first out. */
export class Cleanup {
  readonly #steps: (() => void | Promise<void>)[] = [];

  /** Registers a step, before or right after the action that it undoes. */
  add(step: () => void | Promise<void>): void {
    this.#steps.push(step);
  }

  /** Runs all steps, each even if another fails. Returns the errors. */
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
