// The worker's poll set without poll(2): asks the simulation which descriptors are ready, and lets it
// continue while the worker waits.

import type { Poller } from '../../src/worker/loop/loop.js';

interface Place {
  descriptor: number;
  events: number;
  found: number;
}

/** POLLERR and POLLHUP, which come without a request. */
const ALWAYS = 8 | 16;

/** See the file's head. */
export class SimulatedPoll implements Poller {
  readonly #places: Place[] = [];
  readonly #free: number[] = [];
  readonly #eventsOf: (descriptor: number) => number;
  readonly #waits: (poll: SimulatedPoll, timeout: number) => void;

  /**
   * @param eventsOf the events of a descriptor
   * @param waits lets time pass until the worker must look again
   */
  constructor(
    eventsOf: (descriptor: number) => number,
    waits: (poll: SimulatedPoll, timeout: number) => void,
  ) {
    this.#eventsOf = eventsOf;
    this.#waits = waits;
  }

  add(descriptor: number, events: number): number {
    const index = this.#free.pop() ?? this.#places.length;
    this.#places[index] = { descriptor, events, found: 0 };
    return index;
  }

  remove(index: number): void {
    this.#places[index] = { descriptor: -1, events: 0, found: 0 };
    this.#free.push(index);
  }

  setEvents(index: number, events: number): void {
    const place = this.#places[index];
    if ((place.events === 0) !== (events === 0)) place.found = 0;
    place.events = events;
  }

  reventsOf(index: number): number {
    return this.#places[index].found;
  }

  wait(timeout: number): number {
    if (timeout !== 0) this.#waits(this, timeout);
    return this.look();
  }

  /** The number of places with an event. */
  look(): number {
    let count = 0;
    for (const place of this.#places) {
      const isIgnored = place.events === 0 || place.descriptor < 0;
      place.found = isIgnored ? 0 : this.#eventsOf(place.descriptor) & (place.events | ALWAYS);
      if (place.found !== 0) count++;
    }
    return count;
  }
}
