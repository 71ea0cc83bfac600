// Requests and replies of NBD_CMD_BLOCK_STATUS, for the worker and the Promise client. Pure.

import { type Blocks, type Piece, splitIntoPieces, widen } from './block-rules.js';
import type { ByteRange } from './byte-range.js';
import { NBD_STATE_ZERO } from './constants.js';
import { longestStatus } from './request-lengths.js';

/**
 * The first BLOCK_STATUS for a range: as long as one request may be.
 * @param range one byte or more
 */
export function statusRequest(range: ByteRange, blocks: Blocks, extendedHeaders: boolean): Piece {
  const [first] = splitIntoPieces(widen(range, blocks), longestStatus(extendedHeaders), blocks);
  return first;
}

/**
 * Computes the offset of each extent in a reply: they follow one another. The reply may be shorter or longer than the
 * request.
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

/** Whether bytes with these flags of `base:allocation` read as zeros. A hole alone has undefined content. */
export function readsAsZeros(flags: number): boolean {
  return (flags & NBD_STATE_ZERO) !== 0;
}
