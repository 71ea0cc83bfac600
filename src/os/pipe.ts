// Pipes as plain descriptors.
//
// For waking a thread that waits in poll(2). Neither end ever blocks: a full pipe has woken already.

import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;

/** The two ends of a pipe; the caller owns both. */
export interface Pipe {
  readonly read: number;
  readonly write: number;
}

/** Makes a pipe whose ends never block and are closed on exec. @throws SystemError */
export function pipe(): Pipe {
  const ends = new Int32Array(2);
  if (libc.pipe2(addressOf(ends), O_CLOEXEC | O_NONBLOCK) < 0) throw new SystemError(errno(), 'pipe2');
  return { read: ends[0], write: ends[1] };
}
