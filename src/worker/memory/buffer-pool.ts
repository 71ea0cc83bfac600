// Memory for payloads: a pool of blocks in powers of two, outside of the garbage collector's heap.
//
// Owned by one worker. A block is shared by a request and its commands, and by commands that are
// remembered after it, so it counts who refers to it. Every payload has HEADROOM bytes before it, so
// that a header can be written in front of it without a copy.

import { WRITE_DATA } from '../../fuse/layout.js';
import { addressOf } from '../../linux/libc.js';
import { PAGE } from '../../linux/memory.js';
import { Arena, type Place } from './arena.js';
import { assert } from './assert.js';
import { type Memory, REAL_MEMORY } from './memory.js';

/** Bytes free before a block's payload: a fuse_in_header with fuse_write_in (80) fits. */
export const HEADROOM = 128;

/** Bytes of payload of the kinds of block. The largest has room to round out a 1 MiB request. */
const CAPACITIES = [4, 8, 16, 32, 64, 128, 256, 512, 1024 + 2 * 64].map((kib) => kib * 1024);

/** Bytes of payload from which on a block has its pages for itself. */
const LEAST_SHAREABLE = 1024 * 1024;

/** Byte of its place with which a block begins that has pages for itself: the data of a WRITE begin with a page then. */
const FIRST = PAGE - WRITE_DATA;

/** Bytes of pages for a block that has them for itself. */
function spaceOf(capacity: number): number {
  return Math.ceil((FIRST + HEADROOM + capacity) / PAGE) * PAGE;
}

/** One piece of memory. `address` is that of its first byte, `HEADROOM` before the payload. */
export class PooledBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
  readonly capacity: number;
  /** How many requests and commands refer to it. */
  references = 0;
  /** Whether it is free, with memory that is worth giving back. */
  spare = false;
  /** Whether it has been written to since it was made, or since its memory was given back. */
  resident = false;
  /** Whether its pages are its own, so that a socket may be lent them. */
  readonly shareable: boolean;
  /**
   * How many commands have lent them to a socket, unanswered. Those of a lost connection stay: the block then gets
   * other pages before it is used again.
   */
  shared = 0;

  /** @param place of `spaceOf(capacity)` bytes, when its pages shall be its own */
  constructor(capacity: number, place?: Place) {
    this.shareable = place !== undefined;
    const buffer = place?.buffer ?? new ArrayBuffer(HEADROOM + capacity);
    const start = place === undefined ? 0 : place.start + FIRST;
    this.bytes = new Uint8Array(buffer, start, HEADROOM + capacity);
    this.view = new DataView(buffer, start, HEADROOM + capacity);
    this.address = addressOf(this.bytes);
    this.capacity = capacity;
  }

  /** Gives the memory back to the system; what a socket was lent stays as it is there. False: it could not. */
  discard({ discardPages }: Pick<Memory, 'discardPages'> = REAL_MEMORY): boolean {
    if (!this.shareable) return discardPages(this.address, HEADROOM + this.capacity);
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
export class BufferPool {
  readonly #free: PooledBuffer[][] = CAPACITIES.map(() => []);
  /** Of each kind, the fewest that were free since `discardSpare`: so many were not needed. */
  readonly #spare: number[] = CAPACITIES.map(() => 0);
  /** Those that can be lent: they are never freed, since a socket may outlive all others who know of them. */
  readonly #lendable: PooledBuffer[] = [];
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
  take(length: number): PooledBuffer {
    for (let i = 0; i < CAPACITIES.length; i++) {
      if (length > CAPACITIES[i]) continue;
      const free = this.#free[i];
      const buffer = free.pop() ?? this.#make(CAPACITIES[i]);
      if (free.length < this.#spare[i]) this.#spare[i] = free.length;
      if (buffer.spare) this.#spareBlocks--;
      buffer.spare = false;
      this.#inUse += buffer.capacity;
      buffer.references = 1;
      if (!buffer.resident) this.#occupy(buffer);
      return buffer;
    }
    throw new RangeError(`no buffer holds ${length} bytes`);
  }

  /** Takes one reference away; with the last the block is free again. */
  release(buffer: PooledBuffer): void {
    assert(buffer.references > 0, 'a buffer is released as often as it is taken');
    if (--buffer.references > 0) return;
    const kind = CAPACITIES.indexOf(buffer.capacity);
    this.#inUse -= buffer.capacity;
    // A lost server may still read it.
    if (buffer.shared > 0 && !buffer.discard(this.#memory)) return;
    buffer.shared = 0;
    this.#free[kind].push(buffer);
    if (buffer.capacity < LEAST_DISCARDED) return;
    buffer.spare = true;
    this.#spareBlocks++;
  }

  /** Whether free blocks hold memory that `discardSpare` gives back sooner or later. */
  get hasSpare(): boolean {
    return this.#spareBlocks > 0;
  }

  /** Gives back what was not needed since the last call. */
  discardSpare(): void {
    this.#free.forEach((free, kind) => {
      for (const buffer of free.slice(0, this.#spare[kind]).filter(({ spare }) => spare)) {
        this.#discard(buffer);
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
  discardShared(): void {
    for (const buffer of this.#lendable) if (buffer.shared > 0) buffer.discard(this.#memory);
  }

  #make(capacity: number): PooledBuffer {
    if (capacity < LEAST_SHAREABLE) return new PooledBuffer(capacity);
    const buffer = new PooledBuffer(capacity, this.#arena.take(spaceOf(capacity)));
    this.#lendable.push(buffer);
    return buffer;
  }

  #occupy(buffer: PooledBuffer): void {
    buffer.resident = true;
    this.#resident += buffer.capacity;
    // The largest first, and of each kind those that were used longest ago.
    for (let kind = CAPACITIES.length - 1; kind >= 0 && this.#spareBlocks > 0; kind--) {
      for (const one of this.#free[kind]) {
        if (this.#resident <= KEPT) return;
        if (one.spare) this.#discard(one);
      }
    }
  }

  #discard(buffer: PooledBuffer): void {
    buffer.discard(this.#memory);
    buffer.spare = false;
    buffer.resident = false;
    this.#spareBlocks--;
    this.#resident -= buffer.capacity;
  }
}

/** The largest payload that a block holds, in bytes. */
export const LARGEST_BUFFER = CAPACITIES[CAPACITIES.length - 1];
