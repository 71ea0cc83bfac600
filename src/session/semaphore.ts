// Work of which only so much is done at a time; the rest waits for its turn. Never blocks.

/** See the file's head. */
export class Semaphore {
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /** @param most how many may be at work at once */
  constructor(most: number) {
    this.#most = most;
  }

  /** Does `work` when it is its turn. @throws what `work` rejects with */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#most) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      // The place is handed on, or given up.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
