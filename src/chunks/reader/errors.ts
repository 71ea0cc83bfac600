// Errors of reads, with the errno of the reply.

import { EIO } from '../../constants/errno.js';

/** A read that cannot be answered. */
export class ReadError extends Error {
  override name = 'ReadError';
  readonly errno: number;

  constructor(message: string, options: { readonly errno?: number; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.errno = options.errno ?? EIO;
  }
}

/** The text of an error, or of another value that was thrown. */
export const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
