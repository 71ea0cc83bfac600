// Errors of reads, with the errno of the reply.

import { EIO } from '../../constants/errno.js';
import { isLost } from '../contract/disk.js';

/** A read that cannot be answered. */
export class ReadError extends Error {
  override name = 'ReadError';
  readonly errno: number;
  /** Whether the server below is lost: see DiskConnection. */
  readonly isLost: boolean;

  constructor(message: string, options: { readonly errno?: number; readonly cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.errno = options.errno ?? EIO;
    this.isLost = isLost(options.cause);
  }
}

/** The text of an error, or of another value that was thrown. */
export const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
