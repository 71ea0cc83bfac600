// A password as a file that exists in memory only, for programs that this process starts.
//
// Used by src/image for nbdkit, whose command line all users of the machine can read.

import { writeSync } from 'node:fs';
import { SystemError } from '../linux/errno.js';
import { errno, libc } from '../linux/libc.js';

const MFD_CLOEXEC = 1;

/** The paths of the texts that are kept: a program that opens images again and again needs one descriptor for each. */
const kept = new Map<string, string>();

/**
 * Keeps a text until this process ends. Returns its path, which only processes of the same user can open.
 * @throws SystemError
 */
export function keepSecret(text: string): string {
  const path = kept.get(text) ?? writeSecret(text);
  kept.set(text, path);
  return path;
}

function writeSecret(text: string): string {
  const descriptor = libc.memfd_create('nbdfuse', MFD_CLOEXEC);
  if (descriptor < 0) throw new SystemError(errno(), 'memfd_create');
  writeSync(descriptor, text);
  return `/proc/${process.pid}/fd/${descriptor}`;
}
