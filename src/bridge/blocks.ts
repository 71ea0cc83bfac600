// Memory for payloads: a pool of blocks in powers of two, outside of the garbage collector's heap.
//
// Owned by one worker. A block is shared by an operation and its commands, and by commands that are
// remembered after it, so it counts who refers to it. Every payload has HEADROOM bytes before it, so
// that a header can be written in front of it without a copy.

import { addressOf } from '../os/libc.js';

/** Bytes free before a block's payload: a fuse_in_header with fuse_write_in (80) fits. */
export const HEADROOM = 128;

/** Bytes of payload of the kinds of block. The largest has room to round out a 1 MiB request. */
const CAPACITIES = [4, 8, 16, 32, 64, 128, 256, 512, 1024 + 2 * 64].map((kib) => kib * 1024);

/** One piece of memory. `address` is that of its first byte, `HEADROOM` before the payload. */
export class Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
  readonly capacity: number;
  /** How many operations and commands refer to it. */
  references = 0;

  constructor(capacity: number) {
    const buffer = new ArrayBuffer(HEADROOM + capacity);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.address = addressOf(this.bytes);
    this.capacity = capacity;
  }
}

/** The pool. Blocks are made when first wanted and never given back to the system. */
export class Blocks {
  readonly #free: Block[][] = CAPACITIES.map(() => []);
  readonly #limit: number;
  #inUse = 0;

  /** @param limit bytes in use at which `exhausted` says that no more should be asked for */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Whether so much is in use that nothing new should be begun. */
  get exhausted(): boolean {
    return this.#inUse >= this.#limit;
  }

  /** A block with one reference, the caller's, whose payload has at least `length` bytes, up to the largest kind's 1.125 MiB. */
  take(length: number): Block {
    for (let i = 0; i < CAPACITIES.length; i++) {
      if (length > CAPACITIES[i]) continue;
      const block = this.#free[i].pop() ?? new Block(CAPACITIES[i]);
      this.#inUse += block.capacity;
      block.references = 1;
      return block;
    }
    throw new RangeError(`no block holds ${length} bytes`);
  }

  /** Takes one reference away; with the last the block is free again. */
  release(block: Block): void {
    if (--block.references > 0) return;
    const kind = CAPACITIES.indexOf(block.capacity);
    this.#inUse -= block.capacity;
    this.#free[kind].push(block);
  }
}

/** The largest payload that a block holds, in bytes. */
export const LARGEST_BLOCK = CAPACITIES[CAPACITIES.length - 1];
