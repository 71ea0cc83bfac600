// Standard error, written at once, so that what is said is out before the process ends.

import { writeSync } from 'node:fs';

const STDERR = 2;

/** Writes to standard error. What cannot be written is lost, and nothing else: work goes on. */
export function writeToStderr(what: string | Uint8Array): void {
  try {
    if (typeof what === 'string') writeSync(STDERR, what);
    else writeSync(STDERR, what);
  } catch {
    // EPIPE, EAGAIN, EBADF, EIO, ENOSPC: there is no other place to say it.
  }
}
