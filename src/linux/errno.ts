// Error numbers of Linux, their names, and the error that a failed system call throws.
//
// Used by everybody who makes system calls or answers the kernel. Keeps no state.

import { constants } from 'node:os';
import { libc } from './libc.js';

export const {
  EPERM,
  ENOENT,
  EINTR,
  EIO,
  ENXIO,
  EBADF,
  EAGAIN,
  ENOMEM,
  EACCES,
  EBUSY,
  EEXIST,
  ENODEV,
  ENOTDIR,
  EISDIR,
  EINVAL,
  EFBIG,
  ENOSPC,
  ESPIPE,
  EROFS,
  EPIPE,
  ERANGE,
  ENOSYS,
  ENODATA,
  ESTALE,
  EPROTO,
  EOVERFLOW,
  EOPNOTSUPP,
  ENOPROTOOPT,
  ECONNABORTED,
  ECONNRESET,
  ENOTCONN,
  ETIMEDOUT,
  ECONNREFUSED,
  EINPROGRESS,
} = constants.errno;

/** Not among Node's. */
export const ESHUTDOWN = 108;

/** Second names of the same numbers, which are never said. */
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

/** What the C library says of an errno, such as `Input/output error`. */
export function errnoText(errno: number): string {
  return libc.strerror(errno);
}

/** A system call has failed. */
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
