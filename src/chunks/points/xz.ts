// Finds the blocks of an xz file from the indexes of its streams, which are read from the end of the file backwards.

import { DecodeError, type Input, type PointIndex, type RestartPoint, START } from '../contract/coding.js';
import { stateBefore } from '../decode/later-place.js';
import {
  ALIGNMENT,
  type Fail,
  hasFooterMagic,
  IndexParser,
  KNOWN_CHECKS,
  padded,
  parseStreamFooter,
  parseStreamHeader,
  STREAM_FOOTER,
  STREAM_HEADER,
  UNKNOWN_CHECK,
} from '../decode/xz-format.js';
import { BackwardReader } from './backward-reader.js';

/** Decoded bytes between two points, at least. */
const SPACING = 1024 * 1024;
/** Bytes of an index that are read at once. */
const PIECE = 1024 * 1024;
/** Bytes of padding that are looked at together. */
const PADDING_PIECE = 4096;
/** Bytes of an index, and blocks and streams of a file, at most: some 4 TiB in blocks of 1 MiB. */
const MAX_INDEX = 64 * 1024 * 1024;
const MAX_PARTS = 4 * 1024 * 1024;

/** A block: its bytes with padding, and its decoded bytes. */
interface Block {
  readonly length: number;
  readonly size: number;
}

/** A stream, and the offset of its first byte. */
interface Stream {
  readonly start: number;
  readonly check: number;
  readonly blocks: readonly Block[];
}

const failAt =
  (offset: number): Fail =>
  (reason, message) =>
    new DecodeError(message, reason, { in: offset, out: 0 });

/** The end of the last stream before `end`, without its padding. */
async function endOfStream(reader: BackwardReader, end: number): Promise<number> {
  let at = end;
  for (;;) {
    const length = Math.min(PADDING_PIECE, at);
    if (length < STREAM_FOOTER) throw failAt(end)('truncated', 'the file ends too early');
    const bytes = await reader.read(at - length, length);
    let left = length;
    while (left >= ALIGNMENT && bytes.subarray(left - ALIGNMENT, left).every((byte) => byte === 0))
      left -= ALIGNMENT;
    at -= length - left;
    if (left >= ALIGNMENT) return at;
  }
}

/** @param most blocks */
async function readIndex(
  reader: BackwardReader,
  start: number,
  length: number,
  most: number,
): Promise<readonly Block[]> {
  const fail = failAt(start);
  if (start < STREAM_HEADER || length > MAX_INDEX)
    throw fail('damaged', 'the footer of an xz stream is damaged');
  const blocks: Block[] = [];
  const parser = new IndexParser((unpadded, size) => {
    if (blocks.length === most) throw fail('memory', 'the file has too many blocks');
    blocks.push({ length: padded(unpadded), size });
  }, fail);
  for (let at = 0; at < length; ) {
    const bytes = await reader.read(start + at, Math.min(PIECE, length - at));
    if (parser.feed(bytes) < bytes.length) throw fail('damaged', 'the index of an xz stream is damaged');
    at += bytes.length;
  }
  if (!parser.ended) throw fail('damaged', 'the index of an xz stream is damaged');
  return blocks;
}

/** The stream that ends at `end`. @param most its blocks */
async function readStream(reader: BackwardReader, end: number, most: number): Promise<Stream> {
  const fail = failAt(end);
  if (end < STREAM_HEADER + STREAM_FOOTER) throw fail('truncated', 'the file ends too early');
  const footerBytes = await reader.read(end - STREAM_FOOTER, STREAM_FOOTER);
  if (!hasFooterMagic(footerBytes)) throw fail('truncated', 'the file ends too early, or with other data');
  const { check, indexLength } = parseStreamFooter(footerBytes, fail);
  const indexStart = end - STREAM_FOOTER - indexLength;
  const blocks = await readIndex(reader, indexStart, indexLength, most);
  const start = blocks.reduce((at, { length }) => at - length, indexStart) - STREAM_HEADER;
  if (start < 0) throw fail('damaged', 'the index of an xz stream does not fit the file');
  const header = parseStreamHeader(await reader.read(start, STREAM_HEADER), failAt(start));
  if (header !== check) throw failAt(start)('damaged', 'header and footer of an xz stream differ');
  return { start, check, blocks };
}

/**
 * The size of an xz file's image and its blocks.
 * @throws DecodeError if the file is not an xz file from its beginning to its end; the errors of the input
 */
export async function findXzPoints(input: Input): Promise<PointIndex> {
  const reader = new BackwardReader(input);
  const streams: Stream[] = [];
  let left = MAX_PARTS;
  for (let end = input.size; end > 0; ) {
    if (left <= 0) throw failAt(end)('memory', 'the file has too many streams');
    const stream = await readStream(reader, await endOfStream(reader, end), left);
    streams.push(stream);
    left -= stream.blocks.length + 1;
    end = stream.start;
  }
  if (streams.length === 0) throw failAt(0)('truncated', 'the file is empty');
  const found: (RestartPoint & { readonly check: number })[] = [];
  let [size, end] = [0, 0];
  for (const { start, check, blocks } of streams.reverse()) {
    let at = start + STREAM_HEADER;
    for (const block of blocks) {
      const isFar = size - (found.at(-1)?.out ?? Number.NEGATIVE_INFINITY) >= SPACING;
      if (block.size > 0 && isFar) found.push({ in: at, out: size, check });
      at += block.length;
      size += block.size;
      if (size > Number.MAX_SAFE_INTEGER) throw failAt(at)('unsupported', 'the image is too large');
    }
    end = at;
  }
  const points = found.map(({ in: at, out, check }, i) => {
    const next = found[i + 1] ?? { in: end, out: size };
    return { in: at, out, state: stateBefore(next, [check]) };
  });
  const index = { size, points: points.length === 0 ? [START] : points };
  const isChecked = streams.every(({ check }) => KNOWN_CHECKS.includes(check));
  return isChecked ? index : { ...index, warning: UNKNOWN_CHECK };
}
