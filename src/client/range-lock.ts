// Keeps a read-modify-write of a block apart from every other change of the same block.
//
// Used by block-io.ts, for exports that cannot be written byte by byte. Plain changes of one range may
// run side by side; an exclusive one runs alone. Waiters are served in the order of their coming.

import type { ByteRange } from './ranges.js';

interface Hold extends ByteRange {
  readonly exclusive: boolean;
  granted: boolean;
  readonly grant: () => void;
}

function clash(a: Hold, b: Hold): boolean {
  return (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;
}

export class RangeLock {
  /** In the order of their coming; a hold waits for those before it that clash with it. */
  readonly #holds: Hold[] = [];

  /** Runs `action` while `range` is held. */
  async run<T>(range: ByteRange, exclusive: boolean, action: () => Promise<T>): Promise<T> {
    let grant: () => void = () => undefined;
    const turn = new Promise<void>((resolve) => {
      grant = resolve;
    });
    const hold: Hold = { ...range, exclusive, granted: false, grant };
    this.#holds.push(hold);
    this.#serve();
    await turn;
    try {
      return await action();
    } finally {
      this.#holds.splice(this.#holds.indexOf(hold), 1);
      this.#serve();
    }
  }

  #serve(): void {
    for (const [i, hold] of this.#holds.entries()) {
      if (hold.granted || this.#holds.slice(0, i).some((earlier) => clash(earlier, hold))) continue;
      hold.granted = true;
      hold.grant();
    }
  }
}
