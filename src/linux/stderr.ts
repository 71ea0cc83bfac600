// Standard error, written synchronously, so that a message is out before the process ends.

import { writeSync } from 'node:fs';

const STDERR = 2;

/** Writes to standard error. A failure is ignored: the work continues without the message. */
export function writeToStderr(what: string | Uint8Array): void {
  writeToDescriptor(STDERR, what);
}

/** The same for any descriptor. */
export function writeToDescriptor(descriptor: number, what: string | Uint8Array): void {
  try {
    if (typeof what === 'string') writeSync(descriptor, what);
    else writeSync(descriptor, what);
  } catch {
    // EPIPE, EAGAIN, EBADF, EIO, ENOSPC: there is no other place for the message.
  }
}
