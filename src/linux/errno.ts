// The texts of Linux error numbers, and the error of a failed system call. Their names: constants/errno-names.ts.

import { libc } from './libc.js';

/** The C library's text for an errno, such as `Input/output error`. */
export function errnoText(errno: number): string {
  return libc.strerror(errno);
}

/** The same after a colon, such as `input/output error`. */
export function errnoReason(errno: number): string {
  const text = errnoText(errno);
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** The error of a failed system call. */
export class SystemError extends Error {
  override name = 'SystemError';
  readonly errno: number;
  readonly syscall: string;

  constructor(errno: number, syscall: string) {
    super(`${syscall}: ${errnoText(errno)}`);
    this.errno = errno;
    this.syscall = syscall;
  }
}
