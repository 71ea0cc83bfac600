// The rules of a server's block sizes for requests, shared by the worker and the Promise client. Pure.
//
// The NBD protocol lets a server limit offsets and lengths to multiples of its minimum block size, and payloads to its
// maximum. Nothing says how a disk ends whose size is no such multiple.

import { type ExportInfo, effectiveBlockSizes } from './export-info.js';

/** Bytes of the last block where it is shorter than the minimum that the server has advertised, else 0. */
export function tailBlock(info: ExportInfo): number {
  if (info.blockSizes === undefined) return 0;
  return Number(info.size % BigInt(effectiveBlockSizes(info).minimum));
}

/**
 * Bytes that the first of the READs or WRITEs carries which cover `length` bytes. A last block that is shorter than the
 * minimum goes alone: a server may refuse it, and then refuses only that one.
 * @param left bytes from their beginning to the end of the disk
 * @param maximum bytes of the largest payload
 * @param tail see tailBlock
 */
export function payloadPiece(length: number, left: number, maximum: number, tail: number): number {
  const count = Math.min(length, maximum);
  return tail > 0 && count > tail && left === count ? count - tail : count;
}
