// What to ask with NBD_CMD_BLOCK_STATUS, and what its answer means. Shared by the worker and the Promise client. Pure.

import { type Blocks, type Piece, splitIntoPieces, widen } from './block-rules.js';
import type { ByteRange } from './byte-range.js';
import { NBD_STATE_ZERO } from './constants.js';
import { longestStatus } from './request-lengths.js';

/**
 * The BLOCK_STATUS that asks about the beginning of a range, and as much more of it as one request may.
 * @param range one byte or more
 */
export function statusRequest(range: ByteRange, blocks: Blocks, extendedHeaders: boolean): Piece {
  const [first] = splitIntoPieces(widen(range, blocks), longestStatus(extendedHeaders), blocks);
  return first;
}

/**
 * Gives each extent of an answer its place: they lie one after the other. The answer may end before the request or
 * behind it.
 * @param offset the request's
 * @param lengthOf bytes of one of the `count` extents
 * @param place called for each one in order, except one of no bytes
 */
export function placeExtents(
  offset: bigint,
  count: number,
  lengthOf: (index: number) => bigint | number,
  place: (index: number, start: bigint, end: bigint) => void,
): void {
  let start = offset;
  for (let i = 0; i < count; i++) {
    const end = start + BigInt(lengthOf(i));
    if (end > start) place(i, start, end);
    start = end;
  }
}

/** Whether bytes with these flags of `base:allocation` read as zeros. The contents of a hole alone are undefined. */
export function readsAsZeros(flags: number): boolean {
  return (flags & NBD_STATE_ZERO) !== 0;
}
