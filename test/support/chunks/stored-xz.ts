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

function variable(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7f; left = Math.floor(left / 128)) bytes.push((left & 0x7f) | 0x80);
  return Buffer.from([...bytes, left]);
}

const paddedTo4 = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** Bytes of a part of a block that is not compressed. */
const CHUNK = 64 * 1024;

/** A block of stored bytes with a CRC-32. */
function storedBlock(data: Buffer): Block {
  const header = withCrc(Buffer.from([2, 0, 0x21, 1, 8, 0, 0, 0]));
  const chunks: Buffer[] = [];
  for (let at = 0; at < data.length; at += CHUNK) {
    const chunk = data.subarray(at, at + CHUNK);
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
export function storedStream(...parts: readonly Buffer[]): Buffer {
  const blocks = parts.map(storedBlock);
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
