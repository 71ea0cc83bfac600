// poll(2) over one array of descriptors: no call allocates.
//
// Used by the loops of the worker's threads, one set each. Only `wait` blocks. A set does not own its descriptors.

import { EINTR } from '../constants/errno.js';
import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

/** Size of struct pollfd in bytes: fd, events, revents. */
const ENTRY = 8;

/** The events of a descriptor at this moment: those of `wanted`, and POLLERR, POLLHUP and POLLNVAL. Never blocks. */
export function eventsOf(descriptor: number, wanted: number): number {
  const events = new Int16Array(ENTRY / 2);
  new Int32Array(events.buffer)[0] = descriptor;
  events[2] = wanted;
  return libc.poll(addressOf(events), 1, 0) > 0 ? events[3] : 0;
}

/** Whether a descriptor is closed or of no use any more, as /dev/fuse after the end of its file system. */
export function hasErrors(descriptor: number): boolean {
  return eventsOf(descriptor, 0) !== 0;
}

/** A set of descriptors to wait for, each with a fixed index. */
export class PollSet {
  readonly #fds: Int32Array;
  readonly #events: Int16Array;
  readonly #address: number;
  readonly #free: number[] = [];
  #count = 0;

  /** @param capacity most descriptors */
  constructor(capacity: number) {
    const memory = new ArrayBuffer(capacity * ENTRY);
    this.#fds = new Int32Array(memory);
    this.#events = new Int16Array(memory);
    this.#address = addressOf(this.#fds);
  }

  /** Adds a descriptor and returns its index. @throws RangeError if the set is full */
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

  /** Removes the descriptor at an index; the index may be reused. */
  remove(index: number): void {
    this.#fds[index * 2] = -1;
    this.#events[index * 4 + 3] = 0;
    this.#free.push(index);
  }

  /**
   * Sets the events of a descriptor: POLLIN, POLLOUT or both. With 0 poll(2) skips the descriptor; otherwise POLLHUP
   * and POLLERR would wake this thread again and again.
   */
  setEvents(index: number, events: number): void {
    this.#events[index * 4 + 2] = events;
    const descriptor = this.#fds[index * 2];
    // poll(2) skips negative descriptors. A removed one never gets here.
    if (descriptor < 0 === (events === 0)) return;
    this.#fds[index * 2] = ~descriptor;
    this.#events[index * 4 + 3] = 0;
  }

  /** The events of an index in the last `wait`. */
  reventsOf(index: number): number {
    return this.#events[index * 4 + 3];
  }

  /**
   * Waits for events, at most `timeout` milliseconds (-1: no limit). Returns the number of descriptors with events; 0
   * also after a signal. @throws SystemError
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
