// The names of Linux error numbers, and the error of a failed system call.

import { constants } from 'node:os';
import { ESHUTDOWN } from '../constants/errno.js';
import { libc } from './libc.js';

/** Second names of the same numbers, which messages never use. */
const ALIASES: readonly string[] = ['EWOULDBLOCK', 'ENOTSUP'];

const NAMES = new Map([
  [ESHUTDOWN, 'ESHUTDOWN'],
  ...Object.entries(constants.errno)
    .filter(([name]) => !ALIASES.includes(name))
    .map(([name, number]): [number, string] => [number, name]),
]);

/** The symbolic name of an errno, such as `EIO`. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

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
