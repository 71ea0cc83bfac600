// The requests that a read thread forwards to the worker, in order. Keeps their memory until the worker has taken them.
//
// The memory is the process's (LASTING_MEMORY): the worker may read it after the thread has ended for lack of memory.
// Owned by a read thread. Never blocks; while the ring is full, entries wait for `advance`.

import { libc } from '../../linux/libc.js';
import { COPY_LIMIT, type Device } from '../device/device.js';
import type { BufferPool, PooledBuffer } from '../memory/buffer-pool.js';
import { RING_INTERRUPT, RING_REQUEST, type RingProducer } from './ring.js';

interface Entry {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly buffer: PooledBuffer | undefined;
}

/** See the file's head. */
export class Forwarding {
  readonly #ring: RingProducer;
  readonly #buffers: BufferPool;
  readonly #entries: Entry[] = [];
  /** Number of them in the ring. */
  #pushed = 0;
  #taken = 0;

  constructor(ring: RingProducer, buffers: BufferPool) {
    this.#ring = ring;
    this.#buffers = buffers;
  }

  /** Requests that the worker has not taken yet. */
  get pending(): number {
    return this.#entries.length;
  }

  /** Forwards the request of `length` bytes in a device's buffer. */
  received(device: Device, length: number): void {
    if (length > COPY_LIMIT) {
      this.request(device.takeBuffer(), length);
      return;
    }
    const buffer = this.#buffers.take(length);
    libc.memcpy(buffer.address, device.buffer.address, length);
    this.request(buffer, length);
  }

  /** Forwards the request at the beginning of a buffer, and takes over the buffer. */
  request(buffer: PooledBuffer, length: number): void {
    this.#add({ kind: RING_REQUEST, a: buffer.address, b: length, buffer });
  }

  /** Forwards a FUSE_INTERRUPT, behind the request that it may interrupt. */
  interrupt(uniqueHi: number, uniqueLo: number): void {
    this.#add({ kind: RING_INTERRUPT, a: uniqueHi, b: uniqueLo, buffer: undefined });
  }

  /** Frees the taken entries, and forwards those that wait for room. */
  advance(): void {
    if (this.#entries.length === 0) return;
    const { taken } = this.#ring;
    const count = (taken - this.#taken) >>> 0;
    this.#taken = taken;
    for (const { buffer } of this.#entries.splice(0, count))
      if (buffer !== undefined) this.#buffers.release(buffer);
    this.#pushed -= count;
    this.#push();
  }

  #add(entry: Entry): void {
    this.#entries.push(entry);
    this.#push();
  }

  #push(): void {
    for (; this.#pushed < this.#entries.length; this.#pushed++) {
      const { kind, a, b } = this.#entries[this.#pushed];
      if (!this.#ring.push(kind, a, b)) return;
    }
  }
}
