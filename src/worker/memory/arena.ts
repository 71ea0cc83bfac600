// Page-aligned memory for large buffers, carved from areas that the kernel may back with 2 MiB pages.
//
// Owned by a BufferPool. No two places share a 4 KiB page, so that a socket can share the pages of one buffer.
// The kernel allocates memory at the first touch. An arena never frees memory.

import { addressOf } from '../../linux/libc.js';
import { HUGE_PAGE } from '../../linux/memory.js';
import type { Memory } from './memory.js';

/** Size of an area in bytes. */
const AREA = 16 * 1024 * 1024;

/** The location of a buffer in an area. */
export interface Place {
  readonly buffer: ArrayBuffer;
  /** Offset in `buffer` of the first byte, which is page-aligned. */
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

  /** Takes `length` bytes of unused, zeroed memory: whole pages, at most the size of an area. */
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
