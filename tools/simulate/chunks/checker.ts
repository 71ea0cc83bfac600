// Knows which bytes a read may return.

import type { Random } from '../random.js';
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
 * A disk that is only read, and that the server may replace. A read may return bytes of any disk from the newest one that
 * a read had shown before it began. The cache file may have the bytes of one disk only.
 */
export class ReplacedChecker implements Checker {
  /** The disks in their order. */
  readonly #disks: Buffer[];
  /** The newest disk that a read has shown. */
  #shown = 0;
  /** The disks that the cache file may be of. */
  #kept: ReadonlySet<number> = new Set();

  constructor(disk: Buffer) {
    this.#disks = [disk];
  }

  /** The server has another disk. */
  replace(disk: Buffer): void {
    this.#disks.push(disk);
  }

  /** A life of the chunk server ends, or begins: it compares the cache file with the newest disk. */
  settle(): void {
    this.#shown = this.#disks.length - 1;
    this.#kept = new Set(this.#disks.keys());
  }

  begin(offset: number, length: number): (bytes: Uint8Array) => void {
    const least = this.#shown;
    return (bytes) => {
      for (let at = 0; at < length; ) {
        const end = Math.min(length, at + BLOCK - ((offset + at) % BLOCK));
        this.#check(offset + at, bytes.subarray(at, end), least);
        at = end;
      }
    };
  }

  cached(offset: number, bytes: Uint8Array): void {
    const of = this.#disksOf(offset, bytes);
    this.#kept = new Set([...this.#kept].filter((disk) => of.includes(disk)));
    if (this.#kept.size === 0)
      throw new Violation(
        'stale cache',
        `the bytes at ${offset} in the cache are of another disk than others`,
      );
  }

  /** The numbers of the disks that have these bytes. */
  #disksOf(offset: number, bytes: Uint8Array): readonly number[] {
    const has = (disk: Buffer): boolean =>
      Buffer.compare(bytes, disk.subarray(offset, offset + bytes.length)) === 0;
    return [...this.#disks.keys()].filter((disk) => has(this.#disks[disk]));
  }

  #check(offset: number, bytes: Uint8Array, least: number): void {
    const of = this.#disksOf(offset, bytes);
    const [oldest] = of.filter((disk) => disk >= least);
    if (oldest !== undefined) this.#shown = Math.max(this.#shown, oldest);
    else if (of.length > 0)
      throw new Violation('mixed disks', `a read at ${offset} returns bytes of a disk that is gone`);
    else throw new Violation('wrong bytes', `a read of ${bytes.length} at ${offset} returns other bytes`);
  }
}

/**
 * A disk that is written to. A read may return each version of a block from the newest one that was acknowledged, or
 * that a read had returned, before it began, to the newest one that was sent before its end.
 *
 * The server may lose versions that no FLUSH has covered. A read that begins later may not return them, until they are
 * sent again. The cache file may never have them.
 */
export class ChangingChecker implements Checker {
  /** The bytes at the server. */
  readonly disk = Buffer.alloc(SIZE);
  /** The bytes that the end of the server leaves in any case. */
  readonly #durable = Buffer.alloc(SIZE);
  readonly #image: number;
  /** The version of each block at the server, and the durable one. */
  readonly #there = new Array<number>(BLOCKS).fill(0);
  readonly #safe = new Array<number>(BLOCKS).fill(0);
  /** The versions of each block that the server has lost. */
  readonly #gone = Array.from({ length: BLOCKS }, () => new Set<number>());
  readonly #sent = new Array<number>(BLOCKS).fill(0);
  readonly #known = new Array<number>(BLOCKS).fill(0);
  /** The oldest version of each block that a read could return after each loss. */
  readonly #left: (readonly number[])[] = [];

  constructor(image: number) {
    this.#image = image;
    for (let block = 0; block < BLOCKS; block++)
      this.disk.fill(byteOf(block, 0, image), block * BLOCK, (block + 1) * BLOCK);
    this.disk.copy(this.#durable);
  }

  /** A change of whole blocks arrives at the server. No other change of them has been sent meanwhile. */
  arrive(offset: number, bytes: Uint8Array, isDurable: boolean): void {
    this.disk.set(bytes, offset);
    const [first, end] = [offset / BLOCK, (offset + bytes.length) / BLOCK];
    for (let block = first; block < end; block++) {
      this.#there[block] = this.#sent[block];
      this.#gone[block].delete(this.#sent[block]);
      if (isDurable) this.#keep(block);
    }
  }

  /** The server carries out a FLUSH. */
  flush(): void {
    for (let block = 0; block < BLOCKS; block++) this.#keep(block);
  }

  #keep(block: number): void {
    this.#safe[block] = this.#there[block];
    this.disk.copy(this.#durable, block * BLOCK, block * BLOCK, (block + 1) * BLOCK);
  }

  /** The server ends: each version that is not durable is lost or kept, by chance. @returns how many are lost */
  lose(random: Random): number {
    let count = 0;
    for (let block = 0; block < BLOCKS; block++) {
      if (this.#there[block] === this.#safe[block] || random.chance(0.4)) continue;
      this.#gone[block].add(this.#there[block]);
      this.#there[block] = this.#safe[block];
      this.#known[block] = Math.min(this.#known[block], this.#safe[block]);
      this.#durable.copy(this.disk, block * BLOCK, block * BLOCK, (block + 1) * BLOCK);
      count += 1;
    }
    this.#left.push([...this.#known]);
    this.flush();
    return count;
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
    for (let block = first; block < end; block++) this.#known[block] = this.#there[block];
  }

  begin(offset: number, length: number): (bytes: Uint8Array) => void {
    const [first, end] = [Math.floor(offset / BLOCK), Math.ceil((offset + length) / BLOCK)];
    const least = this.#known.slice(first, end);
    const gone = this.#gone.slice(first, end).map((versions) => new Set(versions));
    const losses = this.#left.length;
    return (bytes) => {
      // The server may have lost a version during the read, and have got a newer one since.
      for (const left of this.#left.slice(losses))
        for (let i = 0; i < least.length; i++) least[i] = Math.min(least[i], left[first + i]);
      for (let block = first; block < end; block++) {
        const from = Math.max(offset, block * BLOCK) - offset;
        const to = Math.min(offset + length, (block + 1) * BLOCK) - offset;
        const part = bytes.subarray(from, to);
        this.#check(block, part, { least: least[block - first], gone: gone[block - first] });
      }
    };
  }

  cached(offset: number, bytes: Uint8Array): void {
    if (Buffer.compare(bytes, this.disk.subarray(offset, offset + bytes.length)) !== 0)
      throw new Violation('stale cache', `the cache has other bytes at ${offset} than the server`);
    if (Buffer.compare(bytes, this.#durable.subarray(offset, offset + bytes.length)) !== 0)
      throw new Violation('stale cache', `the cache has bytes at ${offset} that the server may lose`);
  }

  /** @param known the state at the begin of the read */
  #check(
    block: number,
    bytes: Uint8Array,
    known: { readonly least: number; readonly gone: ReadonlySet<number> },
  ): void {
    const { least } = known;
    const most = this.#sent[block];
    let isLost = false;
    for (let version = most; version >= least; version--) {
      const run = runOf(byteOf(block, version, this.#image));
      if (Buffer.compare(bytes, run.subarray(0, bytes.length)) !== 0) continue;
      if (known.gone.has(version) && this.#gone[block].has(version)) {
        isLost = true;
        continue;
      }
      this.#known[block] = Math.max(this.#known[block], Math.min(version, this.#there[block]));
      return;
    }
    if (isLost)
      throw new Violation('lost bytes', `a read of block ${block} returns bytes that the server has lost`);
    throw new Violation(
      'stale read',
      `a read of block ${block} returns ${bytes[0]}, which is no version from ${least} to ${most}`,
    );
  }
}
