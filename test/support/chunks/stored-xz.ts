// Puts xz streams of stored blocks together (the XZ file format, version 1.1).

import { crc32 } from '../../../src/partitions/crc32.js';

/** A block. */
interface Block {
  /** Its bytes in the file. */
  readonly bytes: Buffer;
  /** Their number without padding, and that of its decoded bytes. */
  readonly unpadded: number;
  readonly size: number;
}

const le32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};

const withCrc = (bytes: Buffer): Buffer => Buffer.concat([bytes, le32(crc32(bytes))]);

/** A number of variable length. */
export function variable(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7f; left = Math.floor(left / 128)) bytes.push((left & 0x7f) | 0x80);
  return Buffer.from([...bytes, left]);
}

const paddedTo4 = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** Bytes of a part of a block that is not compressed. */
const CHUNK = 64 * 1024;

/** The parts of a block: of CHUNK bytes, or so many of about the same size. */
function chunksOf(data: Buffer, count: number | undefined): Buffer[] {
  const length = count ?? Math.ceil(data.length / CHUNK);
  const edge = (i: number): number =>
    count === undefined ? i * CHUNK : Math.floor((i * data.length) / count);
  return Array.from({ length }, (_, i) => data.subarray(edge(i), edge(i + 1)));
}

/** A block of stored bytes with a CRC-32. @param count of its parts, each of which takes three bytes more */
function storedBlock(data: Buffer, count?: number): Block {
  const header = withCrc(Buffer.from([2, 0, 0x21, 1, 8, 0, 0, 0]));
  const chunks: Buffer[] = [];
  for (const [at, chunk] of chunksOf(data, count).entries()) {
    const length = chunk.length - 1;
    // The first one resets the dictionary.
    chunks.push(Buffer.from([at === 0 ? 1 : 2, length >> 8, length & 0xff]), chunk);
  }
  const body = Buffer.concat([...chunks, Buffer.from([0])]);
  return {
    bytes: Buffer.concat([header, paddedTo4(body), le32(crc32(data))]),
    unpadded: header.length + body.length + 4,
    size: data.length,
  };
}

/** A stream of one block for each part, which may be empty. */
export const storedStream = (...parts: readonly Buffer[]): Buffer =>
  streamOfBlocks(parts.map((part) => storedBlock(part)));

/** A stream of one block, of which the index says that it has `size` bytes. @param count of its parts */
export const forgedStream = (data: Buffer, size: number, count?: number): Buffer =>
  streamOfBlocks([{ ...storedBlock(data, count), size }]);

function streamOfBlocks(blocks: readonly Block[]): Buffer {
  const records = blocks.flatMap(({ unpadded, size }) => [variable(unpadded), variable(size)]);
  return streamOf(Buffer.concat(blocks.map(({ bytes }) => bytes)), blocks.length, Buffer.concat(records));
}

/** A stream of any bytes in the place of its blocks. @param records of its index: for each block two numbers */
export function streamOf(blocks: Buffer, count: number, records: Buffer): Buffer {
  const flags = Buffer.from([0, 1]);
  const index = withCrc(paddedTo4(Buffer.concat([Buffer.from([0]), variable(count), records])));
  const backward = Buffer.concat([le32(index.length / 4 - 1), flags]);
  return Buffer.concat([
    Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]),
    flags,
    le32(crc32(flags)),
    blocks,
    index,
    le32(crc32(backward)),
    backward,
    Buffer.from('YZ'),
  ]);
}
