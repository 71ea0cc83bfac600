// The contents that each block of a disk may have: from the last flushed one to the last written one. Pure.

import { Finding } from './finding.js';

export const BLOCK = 4096;

/** The bytes of a block, which name the disk, the place and the number of the content. */
const blockBytes = (disk: number, block: number, content: number): Buffer =>
  Buffer.alloc(BLOCK, `disk ${disk} block ${block} content ${content}; `);

/** See the file's head. */
export class BlockModel {
  readonly blocks: number;
  readonly #disk: number;
  /** The number of the oldest content that a block may have, and of the newest. */
  readonly #oldest: Uint32Array;
  readonly #newest: Uint32Array;
  #contents = 0;

  /** @param disk tells disks of the same size apart */
  constructor(blocks: number, disk: number) {
    this.blocks = blocks;
    this.#disk = disk;
    this.#oldest = new Uint32Array(blocks);
    this.#newest = new Uint32Array(blocks);
  }

  /** All bytes at the beginning. */
  get image(): Buffer {
    return Buffer.concat(Array.from({ length: this.blocks }, (_, i) => blockBytes(this.#disk, i, 0)));
  }

  /** The bytes of a write that begins now. */
  write(first: number, count: number): Buffer {
    this.#contents++;
    this.#newest.fill(this.#contents, first, first + count);
    const bytes = Array.from({ length: count }, (_, i) => blockBytes(this.#disk, first + i, this.#contents));
    return Buffer.concat(bytes);
  }

  /** Begins an fsync. @returns a function to call when it has succeeded */
  flush(): () => void {
    const written = this.#newest.slice();
    return () => this.#oldest.set(written);
  }

  /** Compares bytes that were read when no write was under way. @param isExact nothing has been lost @throws Finding */
  check(first: number, bytes: Uint8Array, isExact: boolean): void {
    for (let i = 0; i * BLOCK < bytes.length; i++) {
      const block = first + i;
      const least = isExact ? this.#newest[block] : this.#oldest[block];
      const found = bytes.subarray(i * BLOCK, (i + 1) * BLOCK);
      if (this.#contentOf(block, found, least) === undefined)
        throw new Finding(
          `block ${block} has ${shown(found)}, not content ${least} to ${this.#newest[block]}`,
        );
    }
  }

  /** Takes the contents that a disk has after a kill for the newest ones, which are flushed now. @throws Finding */
  settle(bytes: Uint8Array): void {
    this.check(0, bytes, false);
    for (let block = 0; block < this.blocks; block++) {
      const found = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
      const content = this.#contentOf(block, found, this.#oldest[block]) ?? 0;
      this.#oldest[block] = this.#newest[block] = content;
    }
  }

  /** The number of a block's content; undefined: it may not have these bytes. */
  #contentOf(block: number, bytes: Uint8Array, least: number): number | undefined {
    const text = Buffer.from(bytes.subarray(0, 64)).toString('latin1');
    const content = Number(/^disk \d+ block \d+ content (\d+);/.exec(text)?.[1] ?? 0);
    if (content < least || content > this.#newest[block]) return undefined;
    return blockBytes(this.#disk, block, content).equals(bytes) ? content : undefined;
  }
}

const shown = (bytes: Uint8Array): string =>
  JSON.stringify(Buffer.from(bytes.subarray(0, 40)).toString('latin1'));
