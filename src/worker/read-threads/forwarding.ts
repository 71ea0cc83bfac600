// The requests that a reader passes on: in order, and with the memory that they lie in, until they are taken.
//
// Owned by a reader. Never blocks; what finds no room in the relay waits for `advance`.

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
  /** How many of them are in the relay. */
  #passed = 0;
  #taken = 0;

  constructor(ring: RingProducer, buffers: BufferPool) {
    this.#ring = ring;
    this.#buffers = buffers;
  }

  /** Requests that the worker has not taken yet. */
  get pending(): number {
    return this.#entries.length;
  }

  /** Passes on the request of `length` bytes that lies in a device's block. */
  received(device: Device, length: number): void {
    if (length > COPY_LIMIT) {
      this.request(device.takeBuffer(), length);
      return;
    }
    const buffer = this.#buffers.take(length);
    libc.memcpy(buffer.address, device.buffer.address, length);
    this.request(buffer, length);
  }

  /** Passes on a request that lies at the beginning of a block, which is given away. */
  request(buffer: PooledBuffer, length: number): void {
    this.#add({ kind: RING_REQUEST, a: buffer.address, b: length, buffer });
  }

  /** Passes on that somebody has had a signal, behind the request that it may be about. */
  interrupt(uniqueHi: number, uniqueLo: number): void {
    this.#add({ kind: RING_INTERRUPT, a: uniqueHi, b: uniqueLo, buffer: undefined });
  }

  /** Frees what was taken, and passes on what waits for room. */
  advance(): void {
    if (this.#entries.length === 0) return;
    const { taken } = this.#ring;
    const count = (taken - this.#taken) >>> 0;
    this.#taken = taken;
    for (const { buffer } of this.#entries.splice(0, count))
      if (buffer !== undefined) this.#buffers.release(buffer);
    this.#passed -= count;
    this.#pass();
  }

  #add(entry: Entry): void {
    this.#entries.push(entry);
    this.#pass();
  }

  #pass(): void {
    for (; this.#passed < this.#entries.length; this.#passed++) {
      const { kind, a, b } = this.#entries[this.#passed];
      if (!this.#ring.pass(kind, a, b)) return;
    }
  }
}
