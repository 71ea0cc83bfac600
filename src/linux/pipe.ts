// Pipes as plain descriptors, for waking a thread in poll(2) and for splice(2).
//
// Neither end blocks: a full pipe has already woken the thread.

import { O_CLOEXEC, O_NONBLOCK } from '../constants/open-flags.js';
import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';

const F_SETPIPE_SZ = 1031;

/** Flags of splice(2) and vmsplice(2). */
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const SPLICE_F_MORE = 4;

/** Both ends of a pipe; the caller owns them. */
export interface Pipe {
  readonly read: number;
  readonly write: number;
}

function tryPipe(): Pipe | undefined {
  const ends = new Int32Array(2);
  if (libc.pipe2(addressOf(ends), O_CLOEXEC | O_NONBLOCK) < 0) return undefined;
  return { read: ends[0], write: ends[1] };
}

/** Makes a pipe: non-blocking, closed on exec. @throws SystemError */
export function pipe(): Pipe {
  const made = tryPipe();
  if (made === undefined) throw new SystemError(errno(), 'pipe2');
  return made;
}

/** Makes a pipe with the first of `sizes`, in bytes, that the system grants; undefined without one. */
export function widePipe(sizes: readonly number[]): Pipe | undefined {
  const made = tryPipe();
  if (made === undefined) return undefined;
  if (sizes.some((bytes) => libc.fcntl(made.write, F_SETPIPE_SZ, bytes) > 0)) return made;
  closePipe(made);
  return undefined;
}

export function closePipe({ read, write }: Pipe): void {
  libc.close(read);
  libc.close(write);
}

const BYTES = new Uint8Array(new ArrayBuffer(64));
/** The address of these bytes; 0 before its first use. */
let bytesAddress = 0;

function address(): number {
  if (bytesAddress === 0) bytesAddress = addressOf(BYTES);
  return bytesAddress;
}

/** Wakes the thread that polls the other end of a pipe. */
export function wake(writeEnd: number): void {
  libc.write(writeEnd, address(), 1);
}

/** Empties a pipe that `wake` has written to. */
export function clearWakes(readEnd: number): void {
  libc.read(readEnd, address(), BYTES.length);
}
