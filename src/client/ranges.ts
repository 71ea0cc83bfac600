// Offsets and lengths of the Promise API: checked, made exact, and cut to what one request may be.
//
// Pure.

import { NbdError } from '../nbd/errors.js';
import type { BlockSizes } from '../nbd/export-info.js';

const EINVAL = 22;

/** A byte position or count: a bigint, or a number that is a safe integer. */
export type ByteCount = bigint | number;

/** Half-open range of bytes of the export. */
export interface ByteRange {
  readonly start: bigint;
  readonly end: bigint;
}

function exact(value: ByteCount, what: string): bigint {
  if (typeof value === 'bigint' ? value >= 0n : Number.isSafeInteger(value) && value >= 0)
    return BigInt(value);
  throw new NbdError(`bad ${what} ${value}: it must be a whole number, 0 or more`, { errno: EINVAL });
}

/** The range that a caller means. @throws NbdError (EINVAL) when it is not inside of `size` bytes */
export function checkRange(offset: ByteCount, length: ByteCount, size: bigint): ByteRange {
  const start = exact(offset, 'offset');
  const end = start + exact(length, 'length');
  if (end > size) {
    throw new NbdError(`bytes ${start} to ${end} are outside the export, whose size is ${size} bytes`, {
      errno: EINVAL,
    });
  }
  return { start, end };
}

/** What two ranges share; its end is not after its start when that is nothing. */
export function overlap(a: ByteRange, b: ByteRange): ByteRange {
  let { start, end } = a;
  if (start < b.start) start = b.start;
  if (end > b.end) end = b.end;
  return { start, end };
}

export function alignDown(value: bigint, block: number): bigint {
  return value - (value % BigInt(block));
}

/** The next multiple of `block`, but not beyond the end of the export. */
export function alignUp(value: bigint, block: number, size: bigint): bigint {
  const up = alignDown(value + BigInt(block) - 1n, block);
  return up < size ? up : size;
}

/** The largest length of a request without payload. */
export function lengthLimit(blockSizes: BlockSizes, extendedHeaders: boolean): number {
  const limit = extendedHeaders ? 2 ** 50 : 2 ** 32 - 1;
  return limit - (limit % blockSizes.minimum);
}

/** Cuts a range into pieces of at most `limit` bytes, in order. */
export function* pieces(
  { start, end }: ByteRange,
  limit: number,
): Generator<{ offset: bigint; length: number }> {
  for (let offset = start; offset < end; ) {
    const rest = end - offset;
    const length = rest < BigInt(limit) ? Number(rest) : limit;
    yield { offset, length };
    offset += BigInt(length);
  }
}
