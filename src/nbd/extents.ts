// Requests and replies of NBD_CMD_BLOCK_STATUS, for the worker and the Promise client. Pure.

import { type Blocks, type Part, splitIntoParts, widen } from './block-rules.js';
import type { ByteRange } from './byte-range.js';
import { NBD_STATE_ZERO } from './constants.js';
import { NbdProtocolError } from './errors.js';
import type { ExportInfo, MetaContext } from './export-info.js';
import { longestStatus } from './request-lengths.js';

/**
 * The first BLOCK_STATUS for a range: as long as one request may be.
 * @param range one byte or more
 */
export function statusRequest(range: ByteRange, blocks: Blocks, extendedHeaders: boolean): Part {
  const [first] = splitIntoParts(widen(range, blocks), longestStatus(extendedHeaders), blocks);
  return first;
}

/** One extent of a reply; extents follow one another from the request's offset on. */
export interface RawExtent {
  /** Bytes, 0 to 2^64-1. */
  readonly length: bigint;
  /** Flags of the context: the lower 53 bits, which a number represents exactly. No known context has more. */
  readonly flags: number;
}

/**
 * The context whose extents a reply carries. An id is valid on its connection only.
 * @param info of the connection
 * @throws NbdProtocolError if the context was not negotiated
 */
export function negotiatedContext(info: Pick<ExportInfo, 'metaContexts'>, id: number): MetaContext {
  const context = info.metaContexts.find((one) => one.id === id);
  if (context === undefined)
    throw new NbdProtocolError('the server reported a metadata context that was not negotiated');
  return context;
}

/** Decodes the extents of a chunk from byte `start` on. @param wide numbers of 64 bits, else of 32 */
export function* decodeExtents(payload: DataView, start: number, wide: boolean): Generator<RawExtent> {
  const each = wide ? 16 : 8;
  for (let at = start; at + each <= payload.byteLength; at += each) {
    if (!wide) yield { length: BigInt(payload.getUint32(at)), flags: payload.getUint32(at + 4) };
    else {
      const flags = Number(BigInt.asUintN(53, payload.getBigUint64(at + 8)));
      yield { length: payload.getBigUint64(at), flags };
    }
  }
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
