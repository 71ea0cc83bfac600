// The operating system as the engine sees it: calls on /dev/fuse, clocks, signals, memory.
//
// The simulator (tools/simulate) implements it too, so that a seed replays a history exactly.

import { release } from 'node:os';
import { loadLibc } from '../../linux/libc.js';
import { type Memory, REAL_MEMORY } from '../memory/memory.js';
import { patienceOf } from './signals.js';

/** A clock in milliseconds, such as `performance` and `Date`. */
export interface Clock {
  now(): number;
}

/** System calls on a /dev/fuse descriptor, with their results and errno. */
export interface DeviceCalls {
  read(descriptor: number, address: number, length: number): number;
  write(descriptor: number, address: number, length: number): number;
  close(descriptor: number): number;
  ioctl(descriptor: number, request: number, argument: number): number;
}

/** See the file's head. */
export interface System {
  readonly device: DeviceCalls;
  /** Monotonic. */
  readonly clock: Clock;
  /** Time of day. */
  readonly wallClock: Clock;
  readonly kernelRelease: string;
  /** Milliseconds of silence after which a signal ends a request of the task `pid`; see `patienceOf`. */
  patienceOf(pid: number): number | undefined;
  yieldProcessor(): void;
  readonly memory: Memory;
}

export const REAL_SYSTEM: System = {
  device: loadLibc(),
  clock: performance,
  wallClock: Date,
  kernelRelease: release(),
  patienceOf,
  yieldProcessor: loadLibc().sched_yield,
  memory: REAL_MEMORY,
};
