// The worker's loop: serves the device, the sockets and the main thread in turns.
//
// Synchronous; blocks only in poll(2). One turn takes a batch of requests from the kernel, then sends their commands in
// as few system calls as possible.

import { POLLIN, POLLOUT } from '../../constants/poll-events.js';
import type { Connection } from '../connection/connection.js';
import { DEVICE_EMPTY, DEVICE_GONE } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import type { Engine } from '../request/engine.js';

/** Most requests of a batch. */
const BATCH = 16;

/** Polls without sleeping before the loop sleeps: about a microsecond each. */
const MOST_LOOKS = 100;
const FEWEST_LOOKS = 2;

/** A request of more bytes is sent at once, before the rest of its batch. */
const LARGE_REQUEST = 64 * 1024;

/** A set of descriptors to wait for: see PollSet. */
export interface Poller {
  add(descriptor: number, events: number): number;
  remove(index: number): void;
  setEvents(index: number, events: number): void;
  reventsOf(index: number): number;
  wait(timeout: number): number;
}

/** Begins requests. */
export interface RequestTaker {
  dispatch(length: number): void;
}

/** The part of the worker that controls the loop. */
export interface LoopControl {
  /** The pipe that the main thread writes to for a wakeup. */
  readonly wakeDescriptor: number;
  takeCalls(): void;
  /** The device is gone: no request will come. */
  unmounted(): void;
  /** Called once a turn; true ends the loop. */
  turn(now: number): boolean;
  /** Milliseconds until the next due call of `turn`; -1: none. */
  patience(): number;
}

/** See the file's head. */
export class Loop {
  readonly #engine: Engine;
  readonly #dispatcher: RequestTaker;
  readonly #disks: readonly Disk[];
  readonly #poll: Poller;
  readonly #control: LoopControl;
  readonly #device: number;
  readonly #wake: number;
  #listening = true;
  #looks = MOST_LOOKS;

  constructor(
    engine: Engine,
    dispatcher: RequestTaker,
    disks: readonly Disk[],
    poll: Poller,
    control: LoopControl,
  ) {
    this.#engine = engine;
    this.#dispatcher = dispatcher;
    this.#disks = disks;
    this.#poll = poll;
    this.#control = control;
    this.#device = poll.add(engine.device.descriptor, POLLIN);
    this.#wake = poll.add(control.wakeDescriptor, POLLIN);
  }

  /** Adds a connection to the poll set. */
  watch(connection: Connection): void {
    connection.pollIndex = this.#poll.add(connection.descriptor, POLLIN);
  }

  /** Removes a lost connection from the poll set. */
  unwatch(connection: Connection): void {
    if (connection.pollIndex >= 0) this.#poll.remove(connection.pollIndex);
    connection.pollIndex = -1;
  }

  /** Stops taking requests from the kernel. */
  stopListening(): void {
    if (!this.#listening) return;
    this.#listening = false;
    this.#poll.setEvents(this.#device, 0);
  }

  /** Takes requests from the kernel again. */
  listenAgain(): void {
    this.#listening = true;
  }

  /** Runs until the control's `turn` returns true. */
  run(): void {
    for (;;) {
      this.flush();
      if (this.#control.turn(this.#engine.now())) return;
      if (this.#listening) this.#poll.setEvents(this.#device, this.#engine.buffers.exhausted ? 0 : POLLIN);
      this.#wait();
      const now = this.#engine.tick();
      if (this.#poll.reventsOf(this.#wake) !== 0) this.#control.takeCalls();
      this.#serveConnections(now);
      if (this.#listening && this.#poll.reventsOf(this.#device) !== 0) this.#serveDevice();
    }
  }

  /**
   * Waits for an event. With requests in progress it polls a few times before it sleeps, as a wakeup takes longer than
   * a fast server; the number adapts to its success. Between two polls it yields the processor, perhaps to the server.
   */
  #wait(): void {
    if (this.#engine.requests.count > 0) {
      for (let i = 0; i < this.#looks; i++) {
        if (this.#poll.wait(0) > 0) {
          this.#looks = Math.min(MOST_LOOKS, this.#looks + 4);
          return;
        }
        this.#engine.system.yieldProcessor();
      }
      this.#looks = Math.max(FEWEST_LOOKS, this.#looks >> 1);
    }
    this.#poll.wait(this.#control.patience());
  }

  #serveConnections(now: number): void {
    for (const disk of this.#disks) {
      for (const connection of disk.connections) this.#serve(connection, now);
      for (const connection of disk.closing) this.#serve(connection, now);
    }
  }

  #serve(connection: Connection, now: number): void {
    const events = this.#poll.reventsOf(connection.pollIndex);
    if (events === 0) return;
    if ((events & POLLOUT) !== 0) connection.hasRoom();
    if ((events & ~POLLOUT) !== 0) connection.receive(now);
  }

  #serveDevice(): void {
    for (let i = 0; i < BATCH && !this.#engine.buffers.exhausted; i++) {
      const length = this.#engine.device.receive();
      if (length === DEVICE_EMPTY) return;
      if (length === DEVICE_GONE) {
        this.stopListening();
        this.#control.unmounted();
        return;
      }
      this.#dispatcher.dispatch(length);
      // The server can work on a large write while the loop takes the next one.
      if (length > LARGE_REQUEST) this.flush();
    }
  }

  /** Sends what the connections' sockets have room for. */
  flush(): void {
    for (const disk of this.#disks) {
      for (const connection of disk.connections) this.#flush(connection);
      for (const connection of disk.closing) this.#flush(connection);
    }
  }

  #flush(connection: Connection): void {
    if (connection.wantsFlush) connection.flush();
    // Sending may have ended the connection.
    if (connection.pollIndex >= 0)
      this.#poll.setEvents(connection.pollIndex, connection.blocked ? POLLIN | POLLOUT : POLLIN);
  }
}
