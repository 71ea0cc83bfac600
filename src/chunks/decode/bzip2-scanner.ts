// Finds the places in bzip2 data where a block or the end of a stream may begin: at any bit, by their magic numbers.

import type { QueuedBytes } from './input-queue.js';

/** Bits of a magic number. */
export const MAGIC_BITS = 48;

/** The magic numbers of a block and of the end of a stream, in halves of 24 bits. */
const HIGH = [0x314159, 0x177245];
const LOW = [0x265359, 0x385090];
const END = 1;

/**
 * For a byte that lies wholly in a magic number: bit `8 * kind + shift` says that it fits the number of that kind which
 * ends `shift` bits before the end of the byte at distance 1, or 2, behind it.
 */
function fits(distance: number): Uint16Array {
  const table = new Uint16Array(256);
  for (const [kind, low] of LOW.entries()) {
    for (let shift = 0; shift < 8; shift++)
      table[(low >>> (8 * distance - shift)) & 0xff] |= 1 << (8 * kind + shift);
  }
  return table;
}

const [FITS_1, FITS_2] = [fits(1), fits(2)];

/** See the file's head. */
export class Bzip2Scanner {
  /** Offset of the next byte to look at. */
  #at = 0;
  #firstBit = 0;
  /** The last seven bytes. */
  #high = 0;
  #low = 0;
  #bit = -1;
  #isEnd = false;

  /** Offset in bits of the place that was found; -1: none. */
  get bit(): number {
    return this.#bit;
  }

  /** Whether the place is the end of a stream. */
  get isEnd(): boolean {
    return this.#isEnd;
  }

  /** Searches behind a place, in bits, where a magic number is known or does not matter. */
  restart(bit: number): void {
    this.#at = Math.floor(bit / 8);
    this.#firstBit = bit + 1;
    this.#high = 0;
    this.#low = 0;
    this.#bit = -1;
  }

  /** Searches for the next place, which `bit` has then. @param chunks the file from the place of `restart` on */
  next(chunks: readonly QueuedBytes[]): void {
    this.#bit = -1;
    for (const { start, bytes } of chunks) {
      if (this.#at < start + bytes.length && this.#search(start, bytes)) return;
    }
  }

  #search(start: number, bytes: Uint8Array): boolean {
    let [high, low] = [this.#high, this.#low];
    const end = bytes.length;
    for (let index = this.#at - start; index < end; index++) {
      high = (high << 8) | (low >>> 24);
      low = (low << 8) | bytes[index];
      const fitting = FITS_1[(low >>> 8) & 0xff] & FITS_2[(low >>> 16) & 0xff];
      if (fitting !== 0 && this.#matches(fitting, start + index, high, low)) {
        this.#keep(start + index + 1, high, low);
        return true;
      }
    }
    this.#keep(start + end, high, low);
    return false;
  }

  #keep(at: number, high: number, low: number): void {
    this.#at = at;
    this.#high = high;
    this.#low = low;
  }

  /** Whether a magic number ends in the byte at `offset`, the last of `high` and `low`. */
  #matches(fitting: number, offset: number, high: number, low: number): boolean {
    for (let which = 0; which < 16; which++) {
      const [kind, shift] = [which >> 3, which & 7];
      if ((fitting & (1 << which)) === 0 || ((low >>> shift) & 0xffffff) !== LOW[kind]) continue;
      if ((((low >>> (24 + shift)) | (high << (8 - shift))) & 0xffffff) !== HIGH[kind]) continue;
      const bit = (offset + 1) * 8 - shift - MAGIC_BITS;
      if (bit < this.#firstBit) continue;
      this.#bit = bit;
      this.#isEnd = kind === END;
      return true;
    }
    return false;
  }
}
