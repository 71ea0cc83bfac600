// What a worker touches outside of its own memory, in two small interfaces, and the real ones.
//
// The engine needs a System: calls and clocks of the operating system. The worker around it needs a World as well:
// what to wait for, how a connection is opened, and the conversation with the main thread. The simulator
// (tools/simulate) brings its own, so that one seed replays a history exactly.

import { release } from 'node:os';
import type { MessagePort } from 'node:worker_threads';
import { libc } from '../linux/libc.js';
import { discardPages, preferHugePages } from '../linux/memory.js';
import { PeerProcesses } from '../linux/peer.js';
import { PollSet } from '../linux/poll.js';
import type { Channel } from './connection/channel.js';
import { openChannel } from './connection/open-channel.js';
import type { ZeroCopySender } from './connection/zero-copy.js';
import type { FromWorker, ToWorker } from './contract/messages.js';
import { isBeingEnded } from './device/signals.js';
import { takeMessages } from './loop/thread.js';

/** A clock that tells milliseconds: `performance` and `Date` are such. */
export interface Clock {
  now(): number;
}

/** The system calls on a /dev/fuse descriptor; results and errors are theirs. */
export interface DeviceCalls {
  read(descriptor: number, address: number, length: number): number;
  write(descriptor: number, address: number, length: number): number;
  close(descriptor: number): number;
}

/** Where the memory of blocks comes from; see os/memory. */
export interface Memory {
  /** Filled with zeros. */
  allocate(bytes: number): ArrayBuffer;
  preferHugePages(address: number, length: number): void;
  discardPages(address: number, length: number): boolean;
}

/** What an engine needs of the operating system. */
export interface System {
  readonly device: DeviceCalls;
  /** Never jumps. */
  readonly clock: Clock;
  /** Tells the time of day. */
  readonly wallClock: Clock;
  readonly kernelRelease: string;
  /** Whether the task `pid` is being ended; undefined when it cannot be looked at. */
  isBeingEnded(pid: number): boolean | undefined;
  /** Offers the processor to whoever wants it. */
  yieldProcessor(): void;
  readonly memory: Memory;
}

/** What the loop waits with: see PollSet. */
export interface Poller {
  add(descriptor: number, events: number): number;
  remove(index: number): void;
  setEvents(index: number, events: number): void;
  reventsOf(index: number): number;
  wait(timeout: number): number;
}

/** What a worker needs around its engine. */
export interface World {
  readonly system: System;
  readonly poll: Poller;
  /** The connection that an `attach` has brought. */
  openChannel(attachment: Extract<ToWorker, { type: 'attach' }>, zeroCopy: ZeroCopySender): Channel;
  /** Hands over what the main thread has said since. */
  takeMessages(hear: (message: ToWorker) => void): void;
  send(message: FromWorker): void;
}

export const REAL_MEMORY: Memory = {
  allocate: (bytes) => new ArrayBuffer(bytes),
  preferHugePages,
  discardPages,
};

export const REAL_SYSTEM: System = {
  device: libc,
  clock: performance,
  wallClock: Date,
  kernelRelease: release(),
  isBeingEnded,
  yieldProcessor: libc.sched_yield,
  memory: REAL_MEMORY,
};

/** Descriptors that one loop can wait for. */
const POLL_CAPACITY = 4096;

/** The world of a worker in a thread. @param wake read end of the pipe by which the main thread wakes it */
export function realWorld(port: MessagePort, wake: number): World {
  const peers = new PeerProcesses();
  return {
    system: REAL_SYSTEM,
    poll: new PollSet(POLL_CAPACITY),
    openChannel: (attachment, zeroCopy) => openChannel(attachment, zeroCopy, peers),
    takeMessages: (hear) => takeMessages(port, wake, hear),
    send: (message) => port.postMessage(message),
  };
}
