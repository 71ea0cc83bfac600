// Offsets and lengths that callers of the Promise API pass: checked and made exact. Pure.

import { EINVAL } from '../constants/errno.js';
import { isOnDisk } from '../nbd/block-rules.js';
import type { ByteRange } from '../nbd/byte-range.js';
import { NbdError } from '../nbd/errors.js';

export type { ByteRange } from '../nbd/byte-range.js';

/** A byte position or count: a bigint, or a number that is a safe integer. */
export type ByteCount = bigint | number;

function exact(value: ByteCount, what: string): bigint {
  if (typeof value === 'bigint' ? value >= 0n : Number.isSafeInteger(value) && value >= 0)
    return BigInt(value);
  throw new NbdError(`bad ${what} ${value}: it must be a whole number, 0 or more`, { errno: EINVAL });
}

/** The range that a caller means. @throws NbdError (EINVAL) when it is not inside of `size` bytes */
export function checkRange(offset: ByteCount, length: ByteCount, size: bigint): ByteRange {
  const start = exact(offset, 'offset');
  const count = exact(length, 'length');
  const end = start + count;
  if (!isOnDisk(count, size - start)) {
    throw new NbdError(`bytes ${start} to ${end} are outside the export, whose size is ${size} bytes`, {
      errno: EINVAL,
    });
  }
  return { start, end };
}
