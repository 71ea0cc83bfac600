// The error of a failed mount or unmount: one line that says what failed, why, and what to do.

import { errnoReason } from '../linux/errno.js';

/** See the file's head; `errno` is a Linux errno where the kernel gave one. */
export class MountError extends Error {
  override name = 'MountError';
  readonly errno: number | undefined;

  constructor(message: string, errno?: number) {
    super(message);
    this.errno = errno;
  }
}

/** Why a call of Node's file system has failed, in the words of strerror(3). */
export function whyFailed(error: unknown): string {
  const { errno } = (error ?? {}) as { readonly errno?: unknown };
  if (typeof errno === 'number') return errnoReason(Math.abs(errno));
  return error instanceof Error ? error.message : String(error);
}
