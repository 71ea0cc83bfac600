// Requests of the kernel that wait for the main thread: for a new list of files, or for a connection.
//
// Owned by the Folder. Each waits under a key, and goes on when that is released; whoever asked can be
// freed before. Nothing here blocks, and no limit is needed: the kernel bounds what is under way.

import type { Requester } from '../device/device.js';
import { abandoned, wantsToStop } from '../device/signals.js';
import type { System } from '../device/system.js';

/** One request. */
export interface ParkedRequest extends Requester {
  readonly pid: number;
  /** Answers it, and returns the errno that was told; undefined when it waits for something else now. */
  readonly goOn: (requester: Requester) => number | undefined;
  /** Hears with which errno it was answered. */
  readonly told: (errno: number) => void;
}

/** See the file's head. */
export class ParkedRequests {
  readonly #parked = new Map<string, ParkedRequest[]>();
  readonly #system: System;

  constructor(system: System) {
    this.#system = system;
  }

  /** Whether anything waits under a key. */
  has(key: string): boolean {
    return this.#parked.has(key);
  }

  /** Holds a request. Returns whether it is the first under its key. */
  park(key: string, request: ParkedRequest): boolean {
    const others = this.#parked.get(key);
    if (others === undefined) this.#parked.set(key, [request]);
    else others.push(request);
    return others === undefined;
  }

  /** Lets everything under a key go on, or be answered by `instead`. */
  release(key: string, instead?: ParkedRequest['goOn']): void {
    const parked = this.#parked.get(key) ?? [];
    this.#parked.delete(key);
    for (const one of parked) {
      const errno = (instead ?? one.goOn)(one);
      if (errno !== undefined) one.told(errno);
    }
  }

  /** Whether any request is held. */
  get any(): boolean {
    return this.#parked.size > 0;
  }

  /** Takes out the request of that number if who asked is being ended, and returns it. */
  interrupt(uniqueLo: number, uniqueHi: number): ParkedRequest | undefined {
    const one = this.#all().find((other) => other.uniqueLo === uniqueLo && other.uniqueHi === uniqueHi);
    if (one === undefined || wantsToStop(one.pid, this.#system.isBeingEnded) === false) return undefined;
    this.#drop([one]);
    return one;
  }

  /** Takes out the requests whose askers are being ended, and returns them. */
  abandoned(): readonly ParkedRequest[] {
    const found = [...abandoned(this.#all(), this.#system.isBeingEnded)];
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
