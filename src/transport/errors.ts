// The error of a server that cannot be reached: one printable line that says what failed, why, and what to do next.
//
// Thrown by every file of this directory. `printable` escapes the text of a server or a child before it becomes part of a
// message.

import { errnoReason, SystemError } from '../linux/errno.js';
import { NbdError } from '../nbd/errors.js';

/** A server could not be started, reached or secured. `message` is one printable line. */
export class TransportError extends NbdError {
  /** The class's name. */
  override name = 'TransportError';
}

/** The errno and `code` that errors of Node's own APIs carry. */
interface NodeFailure {
  readonly errno?: unknown;
  readonly code?: unknown;
}

/** The positive Linux errno in an error of Node, or undefined. */
export function errnoOf(error: unknown): number | undefined {
  const { errno } = (error ?? {}) as NodeFailure;
  return typeof errno === 'number' && errno !== 0 ? Math.abs(errno) : undefined;
}

/** The `code` (such as `ECONNREFUSED`) in an error of Node, or an empty string. */
export function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as NodeFailure;
  return typeof code === 'string' ? code : '';
}

/** Why it failed, in the words of strerror(3) where there is an errno. */
export function reasonOf(error: unknown): string {
  const errno = errnoOf(error);
  if (error instanceof NbdError) return error.message;
  if (errno !== undefined && (error instanceof SystemError || codeOf(error).startsWith('E'))) {
    return errnoReason(errno);
  }
  return error instanceof Error ? error.message : String(error);
}
