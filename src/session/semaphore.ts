// A semaphore: limits how much asynchronous work runs at once. Never blocks.

/** See the file's head. */
export class Semaphore {
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /** @param most how much work may run at once */
  constructor(most: number) {
    this.#most = most;
  }

  /** Runs `work` when a slot is free. @throws the rejection of `work` */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#most) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      // Pass the slot on, or free it.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
