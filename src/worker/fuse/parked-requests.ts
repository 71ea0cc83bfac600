// Parked requests: requests of the kernel that wait for the main thread, for a new list of files or a connection.
//
// Owned by ExportDirectory. Each waits under a key until that is released; a signal can end it before. Never blocks.
// The kernel limits the number of requests, so there is no limit here.

import type { Requester } from '../device/device.js';
import { PATIENCE, patienceAfterInterrupt, signalled } from '../device/signals.js';
import type { System } from '../device/system.js';

/** A parked request. */
export interface ParkedRequest extends Requester {
  readonly pid: number;
  /** Answers the request and returns the errno of the reply; undefined: it is parked again. */
  readonly resume: (requester: Requester) => number | undefined;
  /** Called with the errno of the reply. */
  readonly answered: (errno: number) => void;
}

/** See the file's head. */
export class ParkedRequests {
  readonly #parked = new Map<string, ParkedRequest[]>();
  readonly #system: System;

  constructor(system: System) {
    this.#system = system;
  }

  /** Whether a request is parked under a key. */
  has(key: string): boolean {
    return this.#parked.has(key);
  }

  /** Parks a request. Returns whether it is the first under its key. */
  park(key: string, request: ParkedRequest): boolean {
    const others = this.#parked.get(key);
    if (others === undefined) this.#parked.set(key, [request]);
    else others.push(request);
    return others === undefined;
  }

  /** Continues all requests under a key, or answers them by `instead`. */
  release(key: string, instead?: ParkedRequest['resume']): void {
    const parked = this.#parked.get(key) ?? [];
    this.#parked.delete(key);
    for (const one of parked) {
      const errno = (instead ?? one.resume)(one);
      if (errno !== undefined) one.answered(errno);
    }
  }

  /** Whether a request is parked. */
  get any(): boolean {
    return this.#parked.size > 0;
  }

  /** Removes and returns the request with a number if its task has a signal that ends programs, or an unknown one. */
  interrupt(uniqueLo: number, uniqueHi: number): ParkedRequest | undefined {
    const one = this.#all().find((other) => other.uniqueLo === uniqueLo && other.uniqueHi === uniqueHi);
    if (one === undefined) return undefined;
    if (patienceAfterInterrupt(one.pid, this.#system.patienceOf) === PATIENCE.none) return undefined;
    this.#drop([one]);
    return one;
  }

  /** Removes and returns the requests whose task has a signal that ends programs. */
  abandoned(): readonly ParkedRequest[] {
    const found = [...signalled(this.#all(), this.#system.patienceOf)].map(([one]) => one);
    this.#drop(found);
    return found;
  }

  #all(): ParkedRequest[] {
    return [...this.#parked.values()].flat();
  }

  #drop(some: readonly ParkedRequest[]): void {
    if (some.length === 0) return;
    for (const [key, parked] of this.#parked) {
      const others = parked.filter((one) => !some.includes(one));
      if (others.length > 0) this.#parked.set(key, others);
      else this.#parked.delete(key);
    }
  }
}
