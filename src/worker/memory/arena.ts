// Memory of large blocks: pieces of areas that the system may back with pages of 2 MiB.
//
// Owned by a pool of blocks. Each piece has its pages of 4 KiB for itself, so that a socket can be lent them.
// Memory comes with the first touch, 2 MiB at a time where there are large pages. Nothing is given back here.

import { addressOf } from '../../linux/libc.js';
import { HUGE_PAGE } from '../../linux/memory.js';
import type { Memory } from './memory.js';

/** Bytes of an area. */
const AREA = 16 * 1024 * 1024;

/** Where a piece lies in the buffer of its area. */
export interface Place {
  readonly buffer: ArrayBuffer;
  /** Byte of `buffer` with which it begins, and a page. */
  readonly start: number;
}

/** See the file's head. */
export class Arena {
  readonly #memory: Memory;
  #buffer = new ArrayBuffer(0);
  #next = 0;
  #end = 0;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /** A piece of `length` bytes, whole pages up to an area's, never used before: filled with zeros. */
  take(length: number): Place {
    if (this.#next + length > this.#end) this.#enlarge();
    const start = this.#next;
    this.#next += length;
    return { buffer: this.#buffer, start };
  }

  #enlarge(): void {
    this.#buffer = this.#memory.allocate(AREA + HUGE_PAGE);
    const address = addressOf(new Uint8Array(this.#buffer));
    this.#next = Math.ceil(address / HUGE_PAGE) * HUGE_PAGE - address;
    this.#end = this.#next + AREA;
    this.#memory.preferHugePages(address + this.#next, AREA);
  }
}
