// Reads a file from its end to its start in small parts, and asks for more than it needs, so that near parts are there.

import type { Input } from '../contract/coding.js';

/** Bytes of a read. */
const LENGTH = 64 * 1024;

/** See the file's head. */
export class BackwardReader {
  readonly #input: Input;
  #start = 0;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(input: Input) {
    this.#input = input;
  }

  /** @param length at most MAX_READ. @throws the errors of `input` */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const end = offset + length;
    if (offset < this.#start || end > this.#start + this.#bytes.length) {
      const start = Math.max(0, Math.min(offset, end - LENGTH));
      this.#bytes = await this.#input.read(start, end - start);
      this.#start = start;
    }
    return this.#bytes.subarray(offset - this.#start, end - this.#start);
  }
}
