// poll(2) over one array of descriptors, made once: no call allocates.
//
// Used by the worker's loop, which is the only thread that touches its set. `wait` is the one call that
// blocks. The set owns the array, not the descriptors in it.

import { EINTR, SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

export const POLLIN = 1;
export const POLLOUT = 4;

/** Bytes of struct pollfd: fd, events, revents. */
const ENTRY = 8;

/** A set of descriptors to wait for, each at a place that stays its own. */
export class PollSet {
  readonly #fds: Int32Array;
  readonly #events: Int16Array;
  readonly #address: number;
  readonly #free: number[] = [];
  #count = 0;

  /** @param capacity descriptors at most */
  constructor(capacity: number) {
    const memory = new ArrayBuffer(capacity * ENTRY);
    this.#fds = new Int32Array(memory);
    this.#events = new Int16Array(memory);
    this.#address = addressOf(this.#fds);
  }

  /** Adds a descriptor and returns its place. @throws RangeError when the set is full */
  add(descriptor: number, events: number): number {
    const capacity = this.#fds.length / 2;
    const index = this.#free.pop() ?? this.#count;
    if (index === capacity) throw new RangeError(`more than ${capacity} descriptors to wait for`);
    if (index === this.#count) this.#count++;
    this.#fds[index * 2] = descriptor;
    this.#events[index * 4 + 2] = events;
    this.#events[index * 4 + 3] = 0;
    return index;
  }

  /** Takes the descriptor at a place out; the place may be given away again. */
  remove(index: number): void {
    this.#fds[index * 2] = -1;
    this.#events[index * 4 + 3] = 0;
    this.#free.push(index);
  }

  /**
   * What to wait for at a place: POLLIN, POLLOUT or both; 0: the descriptor is not looked at, or the kernel would wake
   * this thread for whatever happens there, and for its end again and again.
   */
  setEvents(index: number, events: number): void {
    this.#events[index * 4 + 2] = events;
    const descriptor = this.#fds[index * 2];
    // poll(2) leaves out what is negative; that of `remove` never comes here.
    if (descriptor < 0 === (events === 0)) return;
    this.#fds[index * 2] = ~descriptor;
    this.#events[index * 4 + 3] = 0;
  }

  /** What the last `wait` has found at a place. */
  reventsOf(index: number): number {
    return this.#events[index * 4 + 3];
  }

  /**
   * Waits for an event or for so many milliseconds (-1: for ever), and returns how many places have
   * one; 0 too when a signal came in between. @throws SystemError
   */
  wait(timeout: number): number {
    const count = libc.poll(this.#address, this.#count, timeout);
    if (count >= 0) return count;
    const error = errno();
    for (let i = 0; i < this.#count; i++) this.#events[i * 4 + 3] = 0;
    if (error === EINTR) return 0;
    throw new SystemError(error, 'poll');
  }
}
