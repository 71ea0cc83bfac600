// Requests that wait for a connection, in the order of their arrival.
//
// Owned by ConnectionPool, which lets them go when there is a connection and fails them when they have waited enough.

/** A request that waits. One of the two functions is called, once. */
export interface Waiter {
  /** Lets it go. @throws whatever makes it fail */
  readonly go: () => void;
  readonly fail: (error: unknown) => void;
}

/** See the file's head. */
export class WaitingList {
  /** The waiters, each with the function that ends its interest in its signal. */
  readonly #waiters = new Map<Waiter, () => void>();

  /** Adds a request. An abort fails it with the signal's reason. @throws that reason if the signal has fired already */
  add(waiter: Waiter, signal?: AbortSignal): void {
    signal?.throwIfAborted();
    const abort = (): void => {
      this.#waiters.delete(waiter);
      waiter.fail(signal?.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
    this.#waiters.set(waiter, () => signal?.removeEventListener('abort', abort));
  }

  /** Lets those go that wait now, while `mayGo` allows it. */
  go(mayGo: () => boolean): void {
    for (const waiter of [...this.#waiters.keys()]) {
      if (!mayGo()) return;
      if (!this.#remove(waiter)) continue;
      try {
        waiter.go();
      } catch (error) {
        waiter.fail(error);
      }
    }
  }

  /** Fails all. */
  fail(error: unknown): void {
    for (const waiter of [...this.#waiters.keys()]) if (this.#remove(waiter)) waiter.fail(error);
  }

  #remove(waiter: Waiter): boolean {
    this.#waiters.get(waiter)?.();
    return this.#waiters.delete(waiter);
  }
}
