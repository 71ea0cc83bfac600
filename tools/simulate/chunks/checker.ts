// Knows which bytes a read may return.

import { BLOCK, BLOCKS, byteOf, SIZE } from './content.js';
import { Violation } from './violation.js';

const RUNS = new Map<number, Buffer>();

/** A block of one value. */
export function runOf(value: number): Buffer {
  let run = RUNS.get(value);
  if (run === undefined) {
    run = Buffer.alloc(BLOCK, value);
    RUNS.set(value, run);
  }
  return run;
}

/** The rule for the bytes of one image. */
export interface Checker {
  /** A read begins. @returns the check of what it has returned. @throws Violation */
  begin(offset: number, length: number): (bytes: Uint8Array) => void;
  /** Checks bytes that the cache has, when nothing is under way. @throws Violation */
  cached(offset: number, bytes: Uint8Array): void;
}

/** The image of a compressed file, which never changes. */
export class FixedChecker implements Checker {
  readonly #image: Buffer;

  constructor(image: Buffer) {
    this.#image = image;
  }

  begin(offset: number, length: number): (bytes: Uint8Array) => void {
    return (bytes) => {
      if (Buffer.compare(bytes, this.#image.subarray(offset, offset + length)) !== 0)
        throw new Violation('wrong bytes', `a read of ${length} at ${offset} returns other bytes`);
    };
  }

  cached(offset: number, bytes: Uint8Array): void {
    if (Buffer.compare(bytes, this.#image.subarray(offset, offset + bytes.length)) !== 0)
      throw new Violation('stale cache', `the cache has other bytes at ${offset}`);
  }
}

/**
 * A disk that is written to. A read may return each version of a block from the newest one that was acknowledged, or
 * that a read had returned, before it began, to the newest one that was sent before its end.
 */
export class ChangingChecker implements Checker {
  /** The bytes at the server. */
  readonly disk = Buffer.alloc(SIZE);
  readonly #image: number;
  readonly #sent = new Array<number>(BLOCKS).fill(0);
  readonly #known = new Array<number>(BLOCKS).fill(0);

  constructor(image: number) {
    this.#image = image;
    for (let block = 0; block < BLOCKS; block++)
      this.disk.fill(byteOf(block, 0, image), block * BLOCK, (block + 1) * BLOCK);
  }

  /** The bytes of a new version of blocks. */
  change(first: number, end: number): Buffer {
    const parts: Buffer[] = [];
    for (let block = first; block < end; block++) {
      this.#sent[block] += 1;
      parts.push(runOf(byteOf(block, this.#sent[block], this.#image)));
    }
    return Buffer.concat(parts);
  }

  acknowledge(first: number, end: number): void {
    for (let block = first; block < end; block++) this.#known[block] = this.#sent[block];
  }

  begin(offset: number, length: number): (bytes: Uint8Array) => void {
    const [first, end] = [Math.floor(offset / BLOCK), Math.ceil((offset + length) / BLOCK)];
    const least = this.#known.slice(first, end);
    return (bytes) => {
      for (let block = first; block < end; block++) {
        const from = Math.max(offset, block * BLOCK) - offset;
        const to = Math.min(offset + length, (block + 1) * BLOCK) - offset;
        this.#check(block, bytes.subarray(from, to), least[block - first]);
      }
    };
  }

  cached(offset: number, bytes: Uint8Array): void {
    if (Buffer.compare(bytes, this.disk.subarray(offset, offset + bytes.length)) !== 0)
      throw new Violation('stale cache', `the cache has other bytes at ${offset} than the server`);
  }

  #check(block: number, bytes: Uint8Array, least: number): void {
    const most = this.#sent[block];
    for (let version = most; version >= least; version--) {
      const run = runOf(byteOf(block, version, this.#image));
      if (Buffer.compare(bytes, run.subarray(0, bytes.length)) !== 0) continue;
      this.#known[block] = Math.max(this.#known[block], version);
      return;
    }
    throw new Violation(
      'stale read',
      `a read of block ${block} returns ${bytes[0]}, which is no version from ${least} to ${most}`,
    );
  }
}
