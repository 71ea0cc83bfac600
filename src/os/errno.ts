// Error numbers of Linux, and their names.

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
  EPROTO,
  EOVERFLOW,
  EOPNOTSUPP,
  ECONNRESET,
  ENOTCONN,
  ETIMEDOUT,
  ECONNREFUSED,
  EINPROGRESS,
} = constants.errno;

const NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

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
