// The close-on-exec flag of descriptors.

import { SystemError } from './errno.js';
import { errno, libc } from './libc.js';

const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** Lets programs that this process starts later inherit a descriptor, until `closeOnExec`. @throws SystemError */
export function keepOnExec(descriptor: number): void {
  if (libc.fcntl(descriptor, F_SETFD, 0) < 0) throw new SystemError(errno(), 'fcntl');
}

/** Closes a descriptor in programs that this process starts later. @throws SystemError */
export function closeOnExec(descriptor: number): void {
  if (libc.fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0) throw new SystemError(errno(), 'fcntl');
}
