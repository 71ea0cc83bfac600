// Serialises a read-modify-write of a block with every other change of the same block.
//
// Used by block-io.ts, for exports that cannot be written byte by byte. nbd/overlap-order.ts has the rule; here each
// turn is a promise.

import type { ByteRange } from '../nbd/byte-range.js';
import { ACCESS_EXCLUSIVE, ACCESS_SHARED, type OrderedRequest, OverlapOrder } from '../nbd/overlap-order.js';

interface Change extends OrderedRequest {
  /** Begins the turn of a change that waits. */
  start: () => void;
}

export class RangeLock {
  readonly #order = new OverlapOrder<Change>();

  /** Runs `action` at the turn of its range. Other changes may run meanwhile unless it is `exclusive`. */
  async run<T>({ start, end }: ByteRange, exclusive: boolean, action: () => Promise<T>): Promise<T> {
    const change: Change = {
      access: exclusive ? ACCESS_EXCLUSIVE : ACCESS_SHARED,
      rangeStart: start,
      rangeEnd: end,
      start: () => undefined,
    };
    if (!this.#order.enter(change))
      await new Promise<void>((resolve) => {
        change.start = resolve;
      });
    try {
      return await action();
    } finally {
      for (const next of this.#order.leave(change)) next.start();
    }
  }
}
