// The worker's loop: waits for the device, the sockets and the main thread, and lets each have its turn.
//
// Synchronous from beginning to end; blocks only in poll(2). One turn takes a batch of requests from
// the kernel, then sends what they made in as few system calls as possible.

import { POLLIN, POLLOUT } from '../../linux/poll.js';
import type { Connection } from '../connection/connection.js';
import { DEVICE_EMPTY, DEVICE_GONE } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import type { Engine } from '../request/engine.js';

/** Requests taken from the kernel before what they made is sent. */
const BATCH = 16;

/** Looks at the descriptors before sleeping: about a microsecond each. */
const MOST_LOOKS = 100;
const FEWEST_LOOKS = 2;

/** Bytes of a request that is sent on its own, not with its batch. */
const LARGE_REQUEST = 64 * 1024;

/** A set of descriptors to wait for: see PollSet. */
export interface Poller {
  add(descriptor: number, events: number): number;
  remove(index: number): void;
  setEvents(index: number, events: number): void;
  reventsOf(index: number): number;
  wait(timeout: number): number;
}

/** Who begins the request of `length` bytes in the device's block. */
export interface RequestTaker {
  dispatch(length: number): void;
}

/** What the loop asks of the worker around it. */
export interface LoopControl {
  /** The main thread has written to the wake pipe. */
  readonly wakeDescriptor: number;
  takeCalls(): void;
  /** The device is gone: no request will come any more. */
  unmounted(): void;
  /** Called once a turn; true ends the loop. */
  turn(now: number): boolean;
  /** Milliseconds until `turn` wants to be called at the latest, or -1. */
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

  /** Adds a new connection to what is waited for. */
  watch(connection: Connection): void {
    connection.pollIndex = this.#poll.add(connection.descriptor, POLLIN);
  }

  /** Stops waiting for a connection that is lost. */
  unwatch(connection: Connection): void {
    if (connection.pollIndex >= 0) this.#poll.remove(connection.pollIndex);
    connection.pollIndex = -1;
  }

  /** Takes no more requests from the kernel. */
  stopListening(): void {
    if (!this.#listening) return;
    this.#listening = false;
    this.#poll.setEvents(this.#device, 0);
  }

  /** Takes requests from the kernel again. */
  listenAgain(): void {
    this.#listening = true;
  }

  /** Runs until the control's `turn` says that it is over. */
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
   * Waits for something to do. With requests under way it looks a few times before it sleeps, since
   * waking up costs more than a fast server takes; how often, it learns from whether that was in vain.
   * Between two looks the processor is offered to whoever wants it, the server perhaps.
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
    if ((events & POLLOUT) !== 0) connection.blocked = false;
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
      // The server can work on a large write while the next one is being taken.
      if (length > LARGE_REQUEST) this.flush();
    }
  }

  /** Sends what connections have to send, as far as they take it. */
  flush(): void {
    for (const disk of this.#disks) {
      for (const connection of disk.connections) this.#flush(connection);
      for (const connection of disk.closing) this.#flush(connection);
    }
  }

  #flush(connection: Connection): void {
    if (connection.wantsFlush) connection.flush();
    // Sending may have been its end.
    if (connection.pollIndex >= 0)
      this.#poll.setEvents(connection.pollIndex, connection.blocked ? POLLIN | POLLOUT : POLLIN);
  }
}
