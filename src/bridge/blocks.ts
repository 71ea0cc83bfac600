// Memory for payloads: a pool of blocks in powers of two, outside of the garbage collector's heap.
//
// Owned by one worker. A block is shared by an operation and its commands, and by commands that are
// remembered after it, so it counts who refers to it. Every payload has HEADROOM bytes before it, so
// that a header can be written in front of it without a copy.

import { WRITE_DATA } from '../fuse/layout.js';
import { addressOf } from '../os/libc.js';
import { PAGE } from '../os/memory.js';
import { Arena, type Place } from './arena.js';
import { assert } from './assert.js';
import { type Memory, REAL_MEMORY } from './world.js';

/** Bytes free before a block's payload: a fuse_in_header with fuse_write_in (80) fits. */
export const HEADROOM = 128;

/** Bytes of payload of the kinds of block. The largest has room to round out a 1 MiB request. */
const CAPACITIES = [4, 8, 16, 32, 64, 128, 256, 512, 1024 + 2 * 64].map((kib) => kib * 1024);

/** Bytes of payload from which on a block has its pages for itself. */
const LEAST_LENDABLE = 1024 * 1024;

/** Byte of its place with which a block begins that has pages for itself: the data of a WRITE begin with a page then. */
const FIRST = PAGE - WRITE_DATA;

/** Bytes of pages for a block that has them for itself. */
function spaceOf(capacity: number): number {
  return Math.ceil((FIRST + HEADROOM + capacity) / PAGE) * PAGE;
}

/** One piece of memory. `address` is that of its first byte, `HEADROOM` before the payload. */
export class Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
  readonly capacity: number;
  /** How many operations and commands refer to it. */
  references = 0;
  /** Whether it is free, with memory that is worth giving back. */
  spare = false;
  /** Whether it has been written to since it was made, or since its memory was given back. */
  resident = false;
  /** Whether its pages are its own, so that a socket may be lent them. */
  readonly lendable: boolean;
  /**
   * How many commands have lent them to a socket, unanswered. Those of a lost connection stay: the block then gets
   * other pages before it is used again.
   */
  lent = 0;

  /** @param place of `spaceOf(capacity)` bytes, when its pages shall be its own */
  constructor(capacity: number, place?: Place) {
    this.lendable = place !== undefined;
    const buffer = place?.buffer ?? new ArrayBuffer(HEADROOM + capacity);
    const start = place === undefined ? 0 : place.start + FIRST;
    this.bytes = new Uint8Array(buffer, start, HEADROOM + capacity);
    this.view = new DataView(buffer, start, HEADROOM + capacity);
    this.address = addressOf(this.bytes);
    this.capacity = capacity;
  }

  /** Gives the memory back to the system; what a socket was lent stays as it is there. False: it could not. */
  discard({ discardPages }: Pick<Memory, 'discardPages'> = REAL_MEMORY): boolean {
    if (!this.lendable) return discardPages(this.address, HEADROOM + this.capacity);
    return discardPages(this.address - FIRST, spaceOf(this.capacity));
  }
}

/** Smaller ones have too few whole pages to be worth a system call. */
const LEAST_DISCARDED = 16 * 1024;

/**
 * Bytes of memory, in use and free, above which more is not taken without giving back what is free: the sizes of
 * block that were needed at different moments shall not add up.
 */
const KEPT = 96 * 1024 * 1024;

/**
 * The pool. Blocks are made when first wanted, the one that was used last is taken first, and the memory goes back
 * of those that were not wanted for a while (`discardSpare`), or when blocks of another size need much.
 */
export class Blocks {
  readonly #free: Block[][] = CAPACITIES.map(() => []);
  /** Of each kind, the fewest that were free since `discardSpare`: so many were not needed. */
  readonly #spare: number[] = CAPACITIES.map(() => 0);
  /** Those that can be lent: they are never freed, since a socket may outlive all others who know of them. */
  readonly #lendable: Block[] = [];
  readonly #arena: Arena;
  readonly #limit: number;
  readonly #memory: Memory;
  #inUse = 0;
  #resident = 0;
  #spareBlocks = 0;

  /** @param limit bytes in use at which `exhausted` says that no more should be asked for */
  constructor(limit: number, memory: Memory = REAL_MEMORY) {
    this.#limit = limit;
    this.#memory = memory;
    this.#arena = new Arena(memory);
  }

  /** Whether so much is in use that nothing new should be begun. */
  get exhausted(): boolean {
    return this.#inUse >= this.#limit;
  }

  /** A block with one reference, the caller's, whose payload has at least `length` bytes, up to the largest kind's 1.125 MiB. */
  take(length: number): Block {
    for (let i = 0; i < CAPACITIES.length; i++) {
      if (length > CAPACITIES[i]) continue;
      const free = this.#free[i];
      const block = free.pop() ?? this.#make(CAPACITIES[i]);
      if (free.length < this.#spare[i]) this.#spare[i] = free.length;
      if (block.spare) this.#spareBlocks--;
      block.spare = false;
      this.#inUse += block.capacity;
      block.references = 1;
      if (!block.resident) this.#occupy(block);
      return block;
    }
    throw new RangeError(`no buffer holds ${length} bytes`);
  }

  /** Takes one reference away; with the last the block is free again. */
  release(block: Block): void {
    assert(block.references > 0, 'a buffer is released as often as it is taken');
    if (--block.references > 0) return;
    const kind = CAPACITIES.indexOf(block.capacity);
    this.#inUse -= block.capacity;
    // A lost server may still read it.
    if (block.lent > 0 && !block.discard(this.#memory)) return;
    block.lent = 0;
    this.#free[kind].push(block);
    if (block.capacity < LEAST_DISCARDED) return;
    block.spare = true;
    this.#spareBlocks++;
  }

  /** Whether free blocks hold memory that `discardSpare` gives back sooner or later. */
  get hasSpare(): boolean {
    return this.#spareBlocks > 0;
  }

  /** Gives back what was not needed since the last call. */
  discardSpare(): void {
    this.#free.forEach((free, kind) => {
      for (const block of free.slice(0, this.#spare[kind]).filter(({ spare }) => spare)) {
        this.#discard(block);
      }
      this.#spare[kind] = free.length;
    });
  }

  /** Bytes of payload in use. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Bytes of memory that the blocks hold. */
  get resident(): number {
    return this.#resident;
  }

  /** To be called at the end, when no socket is lent anything any more: memory that is still lent is not used again. */
  discardLent(): void {
    for (const block of this.#lendable) if (block.lent > 0) block.discard(this.#memory);
  }

  #make(capacity: number): Block {
    if (capacity < LEAST_LENDABLE) return new Block(capacity);
    const block = new Block(capacity, this.#arena.take(spaceOf(capacity)));
    this.#lendable.push(block);
    return block;
  }

  #occupy(block: Block): void {
    block.resident = true;
    this.#resident += block.capacity;
    // The largest first, and of each kind those that were used longest ago.
    for (let kind = CAPACITIES.length - 1; kind >= 0 && this.#spareBlocks > 0; kind--) {
      for (const one of this.#free[kind]) {
        if (this.#resident <= KEPT) return;
        if (one.spare) this.#discard(one);
      }
    }
  }

  #discard(block: Block): void {
    block.discard(this.#memory);
    block.spare = false;
    block.resident = false;
    this.#spareBlocks--;
    this.#resident -= block.capacity;
  }
}

/** The largest payload that a block holds, in bytes. */
export const LARGEST_BLOCK = CAPACITIES[CAPACITIES.length - 1];
