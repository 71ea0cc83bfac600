// Waits until descriptors can be read or written, for families of sockets that Node cannot wrap.
//
// Used by descriptor-stream.ts. One thread of libuv's pool waits for all descriptors in poll(2), for at most a second
// at a time, so that it does not delay the end of the process.

import { POLLIN, POLLOUT } from '../constants/poll-events.js';
import { addressOf, libc } from '../linux/libc.js';
import { clearWakes, type Pipe, pipe, wake as wakeThread } from '../linux/pipe.js';

const POLLFD_SIZE = 8;

/** Milliseconds that one call of poll may take. */
const POLL_TIME = 1000;

interface Waiter {
  readonly fd: number;
  readonly events: number;
  readonly wake: () => void;
}

const waiters = new Set<Waiter>();
let wakePipe: Pipe | undefined;
let polling = false;

function poll(): void {
  wakePipe ??= pipe();
  const wakeFd = wakePipe.read;
  const order = [...waiters];
  const table = new Int16Array((order.length + 1) * (POLLFD_SIZE / 2));
  const fds = new Int32Array(table.buffer);
  fds[0] = wakeFd;
  table[2] = POLLIN;
  for (const [i, waiter] of order.entries()) {
    fds[(i + 1) * 2] = waiter.fd;
    table[(i + 1) * 4 + 2] = waiter.events;
  }
  polling = true;
  libc.poll.async(addressOf(table), order.length + 1, POLL_TIME, () => {
    polling = false;
    if (table[3] !== 0) clearWakes(wakeFd);
    for (const [i, waiter] of order.entries()) {
      if (table[(i + 1) * 4 + 3] !== 0 && waiters.delete(waiter)) waiter.wake();
    }
    if (waiters.size > 0 && !polling) poll();
  });
}

function wait(fd: number, events: number, wake: () => void): () => void {
  const waiter = { fd, events, wake };
  waiters.add(waiter);
  if (!polling) poll();
  else if (wakePipe !== undefined) wakeThread(wakePipe.write);
  return () => {
    waiters.delete(waiter);
  };
}

/** Calls `wake` once when `fd` can be read, has ended or is broken. Returns a function that cancels it. */
export function whenReadable(fd: number, wake: () => void): () => void {
  return wait(fd, POLLIN, wake);
}

/** Calls `wake` once when `fd` can be written or is broken. Returns a function that cancels it. */
export function whenWritable(fd: number, wake: () => void): () => void {
  return wait(fd, POLLOUT, wake);
}
