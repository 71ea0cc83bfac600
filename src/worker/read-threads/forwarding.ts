// The requests that a reader passes on: in order, and with the memory that they lie in, until they are taken.
//
// Owned by a reader. Never blocks; what finds no room in the relay waits for `advance`.

import { libc } from '../../linux/libc.js';
import { COPY_LIMIT, type Device } from '../device/device.js';
import type { Block, Blocks } from '../memory/buffer-pool.js';
import { RELAY_INTERRUPT, RELAY_REQUEST, type RelaySender } from './ring.js';

interface Entry {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly block: Block | undefined;
}

/** See the file's head. */
export class Passing {
  readonly #relay: RelaySender;
  readonly #blocks: Blocks;
  readonly #entries: Entry[] = [];
  /** How many of them are in the relay. */
  #passed = 0;
  #taken = 0;

  constructor(relay: RelaySender, blocks: Blocks) {
    this.#relay = relay;
    this.#blocks = blocks;
  }

  /** Requests that the worker has not taken yet. */
  get pending(): number {
    return this.#entries.length;
  }

  /** Passes on the request of `length` bytes that lies in a device's block. */
  received(device: Device, length: number): void {
    if (length > COPY_LIMIT) {
      this.request(device.takeBlock(), length);
      return;
    }
    const block = this.#blocks.take(length);
    libc.memcpy(block.address, device.block.address, length);
    this.request(block, length);
  }

  /** Passes on a request that lies at the beginning of a block, which is given away. */
  request(block: Block, length: number): void {
    this.#add({ kind: RELAY_REQUEST, a: block.address, b: length, block });
  }

  /** Passes on that somebody has had a signal, behind the request that it may be about. */
  interrupt(uniqueHi: number, uniqueLo: number): void {
    this.#add({ kind: RELAY_INTERRUPT, a: uniqueHi, b: uniqueLo, block: undefined });
  }

  /** Frees what was taken, and passes on what waits for room. */
  advance(): void {
    if (this.#entries.length === 0) return;
    const { taken } = this.#relay;
    const count = (taken - this.#taken) >>> 0;
    this.#taken = taken;
    for (const { block } of this.#entries.splice(0, count))
      if (block !== undefined) this.#blocks.release(block);
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
      if (!this.#relay.pass(kind, a, b)) return;
    }
  }
}
