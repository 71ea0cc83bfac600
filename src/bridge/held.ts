// Requests of the kernel that wait for the main thread: for a new list of files, or for a connection.
//
// Owned by the Folder. Each waits under a key, and goes on when that is released; whoever asked can be
// freed before. Nothing here blocks, and no limit is needed: the kernel bounds what is under way.

import type { Asker } from './device.js';
import { wantsToStop } from './interrupt.js';

/** One request. */
export interface Held extends Asker {
  readonly pid: number;
  /** Answers it, and returns the errno that was told. */
  readonly goOn: (asker: Asker) => number;
}

/** See the file's head. */
export class HeldRequests {
  readonly #held = new Map<string, Held[]>();

  /** Whether anything waits under a key. */
  has(key: string): boolean {
    return this.#held.has(key);
  }

  /** Holds a request. Returns whether it is the first under its key. */
  hold(key: string, request: Held): boolean {
    const others = this.#held.get(key);
    if (others === undefined) this.#held.set(key, [request]);
    else others.push(request);
    return others === undefined;
  }

  /** Lets everything under a key go on, or be answered by `instead`. */
  release(key: string, instead?: Held['goOn']): void {
    const held = this.#held.get(key) ?? [];
    this.#held.delete(key);
    for (const one of held) (instead ?? one.goOn)(one);
  }

  /** Takes out the request of that number if who asked is being ended, and returns it. */
  interrupt(uniqueLo: number, uniqueHi: number): Asker | undefined {
    for (const [key, held] of this.#held) {
      const one = held.find((other) => other.uniqueLo === uniqueLo && other.uniqueHi === uniqueHi);
      if (one === undefined) continue;
      if (!wantsToStop(one.pid)) return undefined;
      const others = held.filter((other) => other !== one);
      if (others.length > 0) this.#held.set(key, others);
      else this.#held.delete(key);
      return one;
    }
    return undefined;
  }
}
