// Reads a gzip file to its end before nbdkit does: nbdkit's filter stops after the first member, and would serve a part
// of the disk as the whole.
//
// Used by prepare.ts. One pass finds the end of the first member, what follows it, and the last bytes of the disk,
// which may be the footer of a VHD. Layout: RFC 1952.

import { Readable } from 'node:stream';
import { createInflateRaw } from 'node:zlib';
import { printable } from '../nbd/text.js';
import { crc32 } from '../partitions/crc32.js';
import type { DiskReader } from '../partitions/table.js';
import { codeOf } from '../transport/errors.js';
import { ImageError } from './errors.js';
import { type Look, TAIL_LENGTH } from './look.js';
import { HEAD_LENGTH } from './reference.js';
import { onlyFirst } from './unpacking-error.js';

const CHUNK = 1024 * 1024;
const FIXED_HEADER = 10;
const TRAILER = 8;
/** Bits of the header's flags: the parts that follow its fixed part. */
const [HEADER_CRC, EXTRA, NAME, COMMENT] = [2, 4, 8, 16];

/** The length of a member's header; undefined when it is not one, or is longer than `head`. */
export function gzipHeaderLength(head: Buffer): number | undefined {
  if (head.length < FIXED_HEADER || head.readUInt16BE(0) !== 0x1f8b || head[2] !== 8) return undefined;
  const flags = head[3] ?? 0;
  let at = FIXED_HEADER;
  if ((flags & EXTRA) !== 0) {
    if (at + 2 > head.length) return undefined;
    at += 2 + head.readUInt16LE(at);
  }
  for (const bit of [NAME, COMMENT]) {
    if ((flags & bit) === 0) continue;
    const nul = head.indexOf(0, at);
    if (nul < 0) return undefined;
    at = nul + 1;
  }
  if ((flags & HEADER_CRC) !== 0) at += 2;
  return at <= head.length ? at : undefined;
}

async function* chunksOf({ size, read }: DiskReader, from: bigint): AsyncGenerator<Buffer> {
  for (let at = from; at < size; at += BigInt(CHUNK)) {
    const left = size - at;
    yield await read(at, left < CHUNK ? Number(left) : CHUNK);
  }
}

/** The deflated data of a member. */
interface Inflated extends Look {
  /** Their length in the file. */
  readonly packed: bigint;
  /** Their checksum. */
  readonly crc: number;
}

/** @throws Node's errors of zlib; the errors of `read` */
async function inflateFrom(file: DiskReader, from: bigint): Promise<Inflated> {
  const source = Readable.from(chunksOf(file, from), { objectMode: true, highWaterMark: 1 });
  const inflate = createInflateRaw({ chunkSize: CHUNK });
  source.on('error', (error) => inflate.destroy(error));
  let head: Buffer = Buffer.alloc(0);
  let tail: Buffer = head;
  let size = 0n;
  let crc = 0;
  for await (const chunk of source.pipe(inflate) as AsyncIterable<Buffer>) {
    if (head.length < HEAD_LENGTH) head = Buffer.concat([head, chunk]).subarray(0, HEAD_LENGTH);
    tail = Buffer.concat([tail, chunk.subarray(-TAIL_LENGTH)]).subarray(-TAIL_LENGTH);
    size += BigInt(chunk.length);
    // A thread of zlib inflates the next chunk meanwhile.
    crc = crc32(chunk, crc);
  }
  source.destroy();
  return { head, tail: Buffer.from(tail), size, packed: BigInt(inflate.bytesWritten), crc };
}

/** Bytes from `from` to the end, without zeros at the end; the first bytes of them. */
async function remainder(file: DiskReader, from: bigint): Promise<{ length: bigint; start: Buffer }> {
  let [at, length] = [from, 0n];
  let start: Buffer = Buffer.alloc(0);
  for await (const chunk of chunksOf(file, from)) {
    if (at === from) start = chunk.subarray(0, FIXED_HEADER);
    const used = chunk.findLastIndex((byte) => byte !== 0) + 1;
    if (used > 0) length = at - from + BigInt(used);
    at += BigInt(chunk.length);
  }
  return { length, start };
}

/** The message about a file that does not end as it should. */
const early = (shown: string): string => `${shown} ends too early: get it again, and check it with gzip -t`;
const damaged = (shown: string): string => `${shown} is damaged: get it again, and check it with gzip -t`;

/**
 * Unpacks a gzip file to its end, and keeps only the first and last bytes.
 * @param name of the file, for messages
 * @returns the first and last bytes of the disk, with lines for the user
 * @throws ImageError when it is damaged, or nbdkit would read only a part of it; the errors of `read`
 */
export async function lookAtGzip(name: string, file: DiskReader): Promise<Look> {
  const shown = printable(name);
  const first = await file.read(0n, Number(file.size < HEAD_LENGTH ? file.size : HEAD_LENGTH));
  const header = gzipHeaderLength(first);
  if (header === undefined) throw new ImageError(file.size < HEAD_LENGTH ? early(shown) : damaged(shown));
  const found = await inflateFrom(file, BigInt(header)).catch((error: unknown) => {
    const code = codeOf(error);
    if (!code.startsWith('Z_')) throw error;
    throw new ImageError(code === 'Z_BUF_ERROR' ? early(shown) : damaged(shown), { cause: error });
  });
  const end = BigInt(header) + found.packed + BigInt(TRAILER);
  if (end > file.size) throw new ImageError(early(shown));
  const trailer = await file.read(end - BigInt(TRAILER), TRAILER);
  const isWhole = BigInt(trailer.readUInt32LE(4)) === BigInt.asUintN(32, found.size);
  if (!isWhole || trailer.readUInt32LE(0) !== found.crc) throw new ImageError(damaged(shown));
  const { length: trailing, start } = await remainder(file, end);
  if (start.length >= 2 && start.readUInt16BE(0) === 0x1f8b) {
    throw onlyFirst(shown, 'gzip', 'members');
  }
  const { head, tail, size } = found;
  if (trailing === 0n) return { head, tail, size };
  return {
    head,
    tail,
    size,
    lines: [`${shown} has ${trailing} bytes after its end, which nbdfuse ignores as gzip does`],
  };
}
