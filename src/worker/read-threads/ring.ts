// The ring that a read thread shares with the worker: forwarded requests, and a few flags.
//
// One producer, one consumer: nothing waits and no lock is needed. An entry has the address of a request's bytes, which
// the read thread keeps until the worker has taken the entry. It wakes the worker only if that may be asleep.

import { wake } from '../../linux/pipe.js';
import type { ReadThreadEnd, RingMemory } from '../contract/messages.js';
import { assert } from '../memory/assert.js';
import { makeCounters } from '../stats/counters.js';

/** Capacity in entries; a power of two. */
const PLACES = 256;

/** Numbers in one entry: its kind, and two parameters. */
const ENTRY = 3;

/** A request: its address and length. */
export const RING_REQUEST = 0;
/** FUSE_INTERRUPT: the two halves of the unique id of the interrupted request. */
export const RING_INTERRUPT = 1;

/** Indexes of the shared integers. */
const PUSHED = 0;
const TAKEN = 1;
const CALLED = 2;
const CONNECTED = 3;
const IN_FLIGHT = 4;
const REMOTE = 5;
const CHANGING = 6;
const STATE_LENGTH = 7;

/** The memory of one ring. */
export function makeRingMemory(): RingMemory {
  return {
    state: new SharedArrayBuffer(STATE_LENGTH * Int32Array.BYTES_PER_ELEMENT),
    entries: new SharedArrayBuffer(PLACES * ENTRY * Float64Array.BYTES_PER_ELEMENT),
    counters: new SharedArrayBuffer(makeCounters().byteLength),
  };
}

/** The read thread's end. */
export class RingProducer {
  readonly counters: Float64Array;
  readonly #state: Int32Array;
  readonly #entries: Float64Array;
  readonly #wake: number;

  /** @param wake write end of the pipe that wakes the worker */
  constructor({ state, entries, counters }: RingMemory, wake: number) {
    this.counters = new Float64Array(counters);
    this.#state = new Int32Array(state);
    this.#entries = new Float64Array(entries);
    this.#wake = wake;
  }

  /** Whether the server is remote, so that the worker reads ahead. */
  get remote(): boolean {
    return this.#state[REMOTE] !== 0;
  }

  /** Whether a change of the file is in flight: the worker orders reads behind it. */
  get changing(): boolean {
    return Atomics.load(this.#state, CHANGING) !== 0;
  }

  /** Publishes the number of requests in flight here, and whether there is a connection. */
  publish(connected: boolean, inFlight: number): void {
    this.#state[CONNECTED] = connected ? 1 : 0;
    this.#state[IN_FLIGHT] = inFlight;
  }

  /** Number of entries that the worker has taken, modulo 2^32. */
  get taken(): number {
    return Atomics.load(this.#state, TAKEN) >>> 0;
  }

  /** Adds an entry; false if the ring is full. */
  push(kind: number, a: number, b: number): boolean {
    const pushed = Atomics.load(this.#state, PUSHED);
    if (((pushed - Atomics.load(this.#state, TAKEN)) | 0) >= PLACES) return false;
    const at = (pushed & (PLACES - 1)) * ENTRY;
    this.#entries[at] = kind;
    this.#entries[at + 1] = a;
    this.#entries[at + 2] = b;
    Atomics.store(this.#state, PUSHED, (pushed + 1) | 0);
    if (Atomics.exchange(this.#state, CALLED, 1) === 0) wake(this.#wake);
    return true;
  }
}

/** The worker's end. */
export class RingConsumer {
  /** Number of its connection. */
  readonly connection: number;
  /** The /dev/fuse descriptor for the replies to its forwarded requests. */
  readonly descriptor: number;
  readonly counters: Float64Array;
  /** The entry that `next` has read. */
  kind = 0;
  a = 0;
  b = 0;
  readonly #state: Int32Array;
  readonly #entries: Float64Array;

  constructor({ connection, descriptor, memory }: ReadThreadEnd) {
    this.connection = connection;
    this.descriptor = descriptor;
    this.counters = new Float64Array(memory.counters);
    this.#state = new Int32Array(memory.state);
    this.#entries = new Float64Array(memory.entries);
  }

  get connected(): boolean {
    return this.#state[CONNECTED] !== 0;
  }

  get inFlight(): number {
    return this.#state[IN_FLIGHT];
  }

  set remote(remote: boolean) {
    this.#state[REMOTE] = remote ? 1 : 0;
  }

  set changing(changing: boolean) {
    Atomics.store(this.#state, CHANGING, changing ? 1 : 0);
  }

  /** Makes later entries wake the worker. Call `next` once more after it. */
  listen(): void {
    Atomics.store(this.#state, CALLED, 0);
  }

  /** Reads the next entry, if there is one. */
  next(): boolean {
    const taken = Atomics.load(this.#state, TAKEN);
    if (taken === Atomics.load(this.#state, PUSHED)) return false;
    const at = (taken & (PLACES - 1)) * ENTRY;
    this.kind = this.#entries[at];
    this.a = this.#entries[at + 1];
    this.b = this.#entries[at + 2];
    return true;
  }

  /** Takes the entry: the read thread may reuse its memory. */
  take(): void {
    const taken = Atomics.load(this.#state, TAKEN);
    assert(taken !== Atomics.load(this.#state, PUSHED), 'the worker takes no more entries than were pushed');
    Atomics.store(this.#state, TAKEN, (taken + 1) | 0);
  }
}
