// The rules of a server's block sizes for requests, shared by the worker and the Promise client. Pure.
//
// The NBD protocol lets a server limit offsets and lengths to multiples of its minimum block size, and payloads to its
// maximum. It does not say how a disk ends whose size is no such multiple. Functions of numbers are for the worker's
// plain READ and WRITE: they allocate nothing. Functions of a ByteRange are exact for every range.

import { alignDown, alignUp, type ByteRange, intersection } from './byte-range.js';
import { type ExportInfo, effectiveBlockSizes } from './export-info.js';

/** How an export is divided into blocks. */
export interface Blocks {
  /** Bytes of the export. */
  readonly size: bigint;
  /** Bytes: requests are multiples of it, except at the end of the disk. */
  readonly minimum: number;
  /** See tailBlock. */
  readonly tail: number;
}

/** One request's bytes. */
export interface Part {
  readonly offset: bigint;
  /** Bytes, 1 or more. */
  readonly length: number;
}

/** A block that a range covers in part. */
export interface Edge {
  /** The block; it is shorter than the minimum block size only at the end of the disk. */
  readonly block: ByteRange;
  /** The part of the range that lies in the block. */
  readonly part: ByteRange;
}

/** A range, divided at the blocks' borders. */
export interface BlockSplit {
  /** The range, rounded out to blocks. */
  readonly wide: ByteRange;
  /** The blocks at its ends that it covers in part, in order: a change must read these first. None to two. */
  readonly edges: readonly Edge[];
  /** The blocks that it covers as a whole; undefined if there are none. */
  readonly whole: ByteRange | undefined;
}

/** Bytes of the last block if it is shorter than the minimum that the server has advertised, else 0. */
export function tailBlock(info: Pick<ExportInfo, 'size' | 'blockSizes'>): number {
  if (info.blockSizes === undefined) return 0;
  return Number(info.size % BigInt(effectiveBlockSizes(info).minimum));
}

/** Whether `length` bytes lie on the disk. @param left bytes from their beginning to the end of the disk */
export function isOnDisk<T extends bigint | number>(length: T, left: T): boolean {
  return length <= left;
}

/** The blocks of an export. */
export function blocksOf(info: Pick<ExportInfo, 'size' | 'blockSizes'>): Blocks {
  return { size: info.size, minimum: effectiveBlockSizes(info).minimum, tail: tailBlock(info) };
}

/**
 * Bytes of the first of the requests that cover `length` bytes. A last block that is shorter than the minimum goes
 * alone: a server may refuse it, and then refuses only that one.
 * @param left bytes from their beginning to the end of the disk
 * @param limit bytes of the longest request
 * @param tail see tailBlock
 */
export function payloadPart(length: number, left: number, limit: number, tail: number): number {
  const count = Math.min(length, limit);
  return tail > 0 && count > tail && left === count ? count - tail : count;
}

/**
 * Bytes from the beginning of the first block to the end of the last one that `length` bytes touch.
 * @param before bytes from the beginning of the first block to them
 * @param left bytes from their beginning to the end of the disk, `length` or more
 * @param minimum the disk's block size: a power of two
 */
export function wideLength(before: number, length: number, left: number, minimum: number): number {
  const end = before + length;
  return Math.min(end + (-end & (minimum - 1)), before + left);
}

/** The range, rounded out to blocks: what to request in order to read it. */
export function widen({ start, end }: ByteRange, { minimum, size }: Blocks): ByteRange {
  return { start: alignDown(start, minimum), end: alignUp(end, minimum, size) };
}

/**
 * The plan for a change of a range: read the blocks of `edges`, put the new bytes into them, and write them; the
 * blocks of `whole`, between the edges, need no read.
 */
export function splitAtBlocks(range: ByteRange, blocks: Blocks): BlockSplit {
  const { start, end } = range;
  const wide = widen(range, blocks);
  if (start === end) return { wide, edges: [], whole: undefined };
  const { minimum, size } = blocks;
  const first = alignUp(start, minimum, size);
  const last = end === size ? end : alignDown(end, minimum);
  const edges: Edge[] = [];
  const addEdge = (block: ByteRange): void => {
    edges.push({ block, part: intersection(block, range) });
  };
  if (wide.start < start) addEdge({ start: wide.start, end: first });
  // In a single block, the edge at the start is also the one at the end.
  if (last < end && last >= first) addEdge({ start: last, end: wide.end });
  return { wide, edges, whole: first < last ? { start: first, end: last } : undefined };
}

/**
 * The requests of at most `limit` bytes that cover a range, in order.
 * @param range rounded out to blocks
 * @param limit bytes: a multiple of the minimum block size, at most 2^52
 */
export function* splitIntoParts(range: ByteRange, limit: number, { size, tail }: Blocks): Generator<Part> {
  for (let offset = range.start; offset < range.end; ) {
    const length = payloadPart(Number(range.end - offset), Number(size - offset), limit, tail);
    yield { offset, length };
    offset += BigInt(length);
  }
}

/**
 * The parts of a range whose refusals say nothing about each other: a last block that is shorter than the minimum is
 * a part of its own. One or two, in order.
 * @param range rounded out to blocks
 */
export function splitTail(range: ByteRange, { size, tail }: Blocks): readonly ByteRange[] {
  const border = size - BigInt(tail);
  if (range.start >= border || range.end <= border) return [range];
  return [
    { start: range.start, end: border },
    { start: border, end: range.end },
  ];
}
