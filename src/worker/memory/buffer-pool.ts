// A pool of payload buffers, in powers of two, outside the heap of the garbage collector.
//
// Owned by one worker. Buffers are reference-counted: a request, its commands and the unflushed writes share them.
// HEADROOM bytes precede each payload, so that a header fits in front of it without a copy.

import { WRITE_DATA } from '../../fuse/layout.js';
import { addressOf } from '../../linux/libc.js';
import { PAGE } from '../../linux/memory.js';
import { Arena, type Place } from './arena.js';
import { assert } from './assert.js';
import { type Memory, REAL_MEMORY } from './memory.js';

/** Free bytes before the payload of a buffer: fuse_in_header and fuse_write_in (80 bytes) fit. */
export const HEADROOM = 128;

/** Payload sizes in bytes. The largest has room to round out a 1 MiB request to the server's blocks. */
const CAPACITIES = [4, 8, 16, 32, 64, 128, 256, 512, 1024 + 2 * 64].map((kib) => kib * 1024);

/** Buffers with at least this many bytes of payload have pages of their own. */
const LEAST_SHAREABLE = 1024 * 1024;

/** Offset in its place at which a buffer with pages of its own begins: the data of a WRITE are page-aligned then. */
const FIRST = PAGE - WRITE_DATA;

/** Bytes of whole pages for a buffer with pages of its own. */
function spaceOf(capacity: number): number {
  return Math.ceil((FIRST + HEADROOM + capacity) / PAGE) * PAGE;
}

/** One buffer. `address` is the address of its first byte, `HEADROOM` bytes before the payload. */
export class PooledBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
  readonly capacity: number;
  /** Whether the buffer is free and large enough to be worth discarding. */
  spare = false;
  /** Whether the buffer has memory: used since its creation or since the last discard. */
  resident = false;
  /** Whether the buffer has pages of its own, so that a socket may share them. */
  readonly shareable: boolean;
  #references = 0;
  #shared = 0;

  /** @param place `spaceOf(capacity)` bytes for a buffer with pages of its own; or the memory for one without */
  constructor(capacity: number, place: Place | ArrayBuffer = new ArrayBuffer(HEADROOM + capacity)) {
    this.shareable = !(place instanceof ArrayBuffer);
    const buffer = place instanceof ArrayBuffer ? place : place.buffer;
    const start = place instanceof ArrayBuffer ? 0 : place.start + FIRST;
    this.bytes = new Uint8Array(buffer, start, HEADROOM + capacity);
    this.view = new DataView(buffer, start, HEADROOM + capacity);
    this.address = addressOf(this.bytes);
    this.capacity = capacity;
  }

  /** Number of references: requests, commands and unflushed writes. */
  get references(): number {
    return this.#references;
  }

  /**
   * Number of unanswered commands whose socket shares the pages. A lost connection never lowers it: the buffer then
   * gets new pages before its next use.
   */
  get shared(): number {
    return this.#shared;
  }

  /** Gives a free buffer its first reference. */
  take(): void {
    assert(
      this.#references === 0 && this.#shared === 0,
      'a free buffer has no owner, and no socket shares it',
    );
    this.#references = 1;
  }

  /** Adds a reference. */
  retain(): void {
    assert(this.#references > 0, 'only a buffer in use gets another reference');
    this.#references++;
  }

  /** Removes a reference. Returns how many are left. */
  drop(): number {
    assert(this.#references > 0, 'a buffer is released as often as it is taken');
    return --this.#references;
  }

  /** A socket shares the pages for one more command. */
  share(): void {
    assert(this.shareable && this.#references > 0, 'a socket shares the pages of a buffer in use');
    this.#shared++;
  }

  /** The server has read the payload of one such command. */
  unshare(): void {
    assert(this.#shared > 0, 'a socket shares the pages of each command once');
    this.#shared--;
  }

  /** The pages are new: no socket shares them. */
  forgetShares(): void {
    this.#shared = 0;
  }

  /** Returns the memory to the system. Pages shared with a socket keep their data there. False: the system refused. */
  discard({ discardPages }: Pick<Memory, 'discardPages'> = REAL_MEMORY): boolean {
    if (!this.shareable) return discardPages(this.address, HEADROOM + this.capacity);
    return discardPages(this.address - FIRST, spaceOf(this.capacity));
  }
}

/** Smaller buffers have too few whole pages to be worth a system call. */
const LEAST_DISCARDED = 16 * 1024;

/**
 * Limit of memory in bytes, in use and free. Above it, the pool discards free buffers before it takes more memory, so
 * that the sizes needed at different moments do not add up.
 */
const KEPT = 96 * 1024 * 1024;

/**
 * The pool. It creates buffers on demand and reuses the most recently used one first. It discards buffers that nobody
 * needed for a while (`discardSpare`), and free ones when other sizes need much memory.
 */
export class BufferPool {
  readonly #free: PooledBuffer[][] = CAPACITIES.map(() => []);
  /** For each size, the lowest number of free buffers since the last `discardSpare`: the ones nobody needed. */
  readonly #spare: number[] = CAPACITIES.map(() => 0);
  /** All shareable buffers, never collected: a socket may use the pages longer than any object refers to them. */
  readonly #shareable: PooledBuffer[] = [];
  readonly #arena: Arena;
  readonly #limit: number;
  readonly #memory: Memory;
  #inUse = 0;
  #resident = 0;
  #spareCount = 0;

  /** @param limit bytes in use at which the pool is `exhausted` */
  constructor(limit: number, memory: Memory = REAL_MEMORY) {
    this.#limit = limit;
    this.#memory = memory;
    this.#arena = new Arena(memory);
  }

  /** Whether the limit is reached: new work should wait. */
  get exhausted(): boolean {
    return this.#inUse >= this.#limit;
  }

  /** Takes a buffer for `length` bytes of payload or more, with one reference. @throws RangeError: > LARGEST_BUFFER */
  take(length: number): PooledBuffer {
    for (let i = 0; i < CAPACITIES.length; i++) {
      if (length > CAPACITIES[i]) continue;
      const free = this.#free[i];
      const buffer = free.pop() ?? this.#make(CAPACITIES[i]);
      if (free.length < this.#spare[i]) this.#spare[i] = free.length;
      if (buffer.spare) this.#spareCount--;
      buffer.spare = false;
      buffer.take();
      this.#inUse += buffer.capacity;
      if (!buffer.resident) this.#occupy(buffer);
      return buffer;
    }
    throw new RangeError(`no buffer holds ${length} bytes`);
  }

  /** Removes one reference. The last one frees the buffer. */
  release(buffer: PooledBuffer): void {
    if (buffer.drop() > 0) return;
    const kind = CAPACITIES.indexOf(buffer.capacity);
    this.#inUse -= buffer.capacity;
    // The socket of a lost connection may still use the pages.
    if (buffer.shared > 0 && !buffer.discard(this.#memory)) return;
    buffer.forgetShares();
    this.#free[kind].push(buffer);
    if (buffer.capacity < LEAST_DISCARDED) return;
    buffer.spare = true;
    this.#spareCount++;
  }

  /** Whether `discardSpare` has free buffers to discard, now or later. */
  get hasSpare(): boolean {
    return this.#spareCount > 0;
  }

  /** Discards the buffers that nobody needed since the last call. */
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

  /** Bytes of payload with memory behind them, in use and free. */
  get resident(): number {
    return this.#resident;
  }

  /** Discards pages that a socket may still use. To be called at the end, after which nobody uses the buffers. */
  discardShared(): void {
    for (const buffer of this.#shareable) if (buffer.shared > 0) buffer.discard(this.#memory);
  }

  #make(capacity: number): PooledBuffer {
    if (capacity < LEAST_SHAREABLE)
      return new PooledBuffer(capacity, this.#memory.allocateBuffer(HEADROOM + capacity));
    const buffer = new PooledBuffer(capacity, this.#arena.take(spaceOf(capacity)));
    this.#shareable.push(buffer);
    return buffer;
  }

  #occupy(buffer: PooledBuffer): void {
    buffer.resident = true;
    this.#resident += buffer.capacity;
    // Largest size first; within a size, least recently used first.
    for (let kind = CAPACITIES.length - 1; kind >= 0 && this.#spareCount > 0; kind--) {
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
    this.#spareCount--;
    this.#resident -= buffer.capacity;
  }
}

/** Largest payload of a buffer, in bytes. */
export const LARGEST_BUFFER = CAPACITIES[CAPACITIES.length - 1];
