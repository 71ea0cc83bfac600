// Keeps a read-modify-write of a block apart from every other change of the same block.
//
// Used by block-io.ts, for exports that cannot be written byte by byte. Several plain changes of a range may run at
// the same time; an exclusive one runs alone. First come, first served.

import { type ByteRange, overlaps } from '../nbd/byte-range.js';

interface Hold extends ByteRange {
  readonly exclusive: boolean;
  granted: boolean;
  readonly grant: () => void;
}

function clash(a: Hold, b: Hold): boolean {
  return (a.exclusive || b.exclusive) && overlaps(a.start, a.end, b.start, b.end);
}

export class RangeLock {
  /** First come, first served: a hold waits for those before it that clash with it. */
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
