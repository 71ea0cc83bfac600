// Android sparse images: the decoder and the restart points, against img2simg and simg2img.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DecodeError, type Input, START } from '../../../../src/chunks/contract/coding.js';
import { createAndroidSparseDecoder } from '../../../../src/chunks/decode/android-sparse.js';
import { findAndroidSparsePoints } from '../../../../src/chunks/points/android-sparse.js';
import {
  decodeAll,
  decodeFromEverywhere,
  sampleBytes,
  throughShell,
} from '../../../support/chunks/decoding.js';
import { requirePrograms } from '../../../support/run/requires.js';

requirePrograms('img2simg', 'simg2img');

const BLOCK = 4096;

/** A disk of data, holes and repeated numbers, each of so many blocks. */
function disk(...parts: readonly (readonly ['data' | 'zeros' | 'number', number])[]): Buffer {
  return Buffer.concat(
    parts.map(([kind, blocks], i) => {
      const length = blocks * BLOCK;
      if (kind === 'data') return sampleBytes(length, i);
      return Buffer.alloc(length, kind === 'zeros' ? 0 : 'abcd');
    }),
  );
}

const MIXED = disk(
  ['zeros', 3],
  ['data', 40],
  ['number', 5],
  ['zeros', 100],
  ['data', 1],
  ['number', 1],
  ['zeros', 2],
);
const LONG = disk(['data', 3000], ['zeros', 3000], ['number', 3000]);

const toSparse = (raw: Uint8Array): Promise<Buffer> => throughShell('img2simg "$1" "$2"', raw);
const fromSparse = (sparse: Uint8Array): Promise<Buffer> => throughShell('simg2img "$1" "$2"', sparse);

function header(blocks: number, chunks: number, more = 0): Buffer {
  const bytes = Buffer.alloc(28 + more);
  bytes.writeUInt32LE(0xed26ff3a);
  bytes.writeUInt16LE(1, 4);
  bytes.writeUInt16LE(28 + more, 8);
  bytes.writeUInt16LE(12 + more, 10);
  for (const [i, value] of [BLOCK, blocks, chunks].entries()) bytes.writeUInt32LE(value, 12 + 4 * i);
  return bytes;
}

function chunk(type: number, blocks: number, data: Uint8Array = Buffer.alloc(0), more = 0): Buffer {
  const bytes = Buffer.alloc(12 + more);
  bytes.writeUInt16LE(type);
  bytes.writeUInt32LE(blocks, 4);
  bytes.writeUInt32LE(12 + more + data.length, 8);
  return Buffer.concat([bytes, data]);
}
const [RAW, FILL, HOLE, CHECKSUM] = [0xcac1, 0xcac2, 0xcac3, 0xcac4];

/** An input, and the bytes that were read from it. */
function inputOf(file: Uint8Array): Input & { bytesRead: number } {
  return {
    bytesRead: 0,
    size: file.length,
    parallel: 1,
    async read(offset, length) {
      if (offset + length > file.length) throw new Error('beyond the end');
      this.bytesRead += length;
      return file.subarray(offset, offset + length);
    },
    async close() {},
  };
}

/** The failure of a file, which the decoder and the search for points share. */
async function failureOf(file: Buffer): Promise<string> {
  const { failure } = decodeAll(createAndroidSparseDecoder(START, 1), file);
  const error: unknown = await findAndroidSparsePoints(inputOf(file)).catch((why: unknown) => why);
  if (!(error instanceof DecodeError) || failure === undefined) throw new Error('it does not fail');
  expect([error.message, error.reason]).toEqual([failure.message, failure.reason]);
  return `${failure.reason}: ${failure.message}`;
}

describe('Android sparse image', () => {
  it('has the bytes that simg2img writes, from every restart point', async () => {
    for (const raw of [MIXED, LONG]) {
      const sparse = await toSparse(raw);
      expect((await fromSparse(sparse)).equals(raw)).toBe(true);
      expect(decodeFromEverywhere(createAndroidSparseDecoder, sparse, raw).length).toBeGreaterThan(1);
    }
  });

  it('has restart points by its headers, also within long chunks', async () => {
    const sparse = await toSparse(LONG);
    const input = inputOf(sparse);
    const { size, points } = await findAndroidSparsePoints(input);
    expect(size).toBe(LONG.length);
    expect(points.map(({ out }) => out)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => i * 4 * 1024 * 1024));
    expect(input.bytesRead).toBeLessThan(sparse.length / 10);
    for (const point of points) {
      const { bytes, failure } = decodeAll(createAndroidSparseDecoder(point, 1), sparse);
      expect(failure).toBeUndefined();
      expect(bytes.equals(LONG.subarray(point.out))).toBe(true);
    }
  });

  it('has a bounded number of restart points, whatever size its 40 bytes claim', async () => {
    const blocks = 2 ** 32 - 1;
    const head = header(blocks, 1);
    head.writeUInt32LE(2 ** 21, 12);
    const file = Buffer.concat([head, chunk(HOLE, blocks)]);
    expect(file).toHaveLength(40);
    const { size, points } = await findAndroidSparsePoints(inputOf(file));
    expect(size).toBe(blocks * 2 ** 21);
    expect(points.length).toBeGreaterThan(60_000);
    expect(points.length).toBeLessThanOrEqual(65_537);
    const last = points.at(-1) ?? START;
    const decoder = createAndroidSparseDecoder(last, 1);
    decoder.push(Buffer.alloc(0), true);
    expect(decoder.pull(new Uint8Array(100))).toBe(100);
    expect(decoder.out).toBe(last.out + 100);
  });

  it('is decoded the same in any parts', async () => {
    const sparse = await toSparse(MIXED);
    const sizes = fc.array(fc.integer({ min: 1, max: 10_000 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(sizes, sizes, (pushes, pulls) => {
        const decoder = createAndroidSparseDecoder(START, 1);
        expect(decodeAll(decoder, sparse, { pushes, pulls }).bytes.equals(MIXED)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  it('may have checksums, longer headers, empty chunks, and bytes behind its end', async () => {
    const more = 8;
    const number = Buffer.from('wxyz');
    const file = Buffer.concat([
      header(3, 5, more),
      chunk(HOLE, 1, undefined, more),
      chunk(RAW, 0, undefined, more),
      chunk(CHECKSUM, 0, number, more),
      chunk(FILL, 1, number, more),
      chunk(RAW, 1, Buffer.alloc(BLOCK, 'raw'), more),
      Buffer.from('garbage'),
    ]);
    const raw = Buffer.concat([Buffer.alloc(BLOCK), Buffer.alloc(BLOCK, 'wxyz'), Buffer.alloc(BLOCK, 'raw')]);
    decodeFromEverywhere(createAndroidSparseDecoder, file, raw);
    expect((await findAndroidSparsePoints(inputOf(file))).size).toBe(raw.length);
  });

  it.each([
    ['damaged: the Android sparse image has no header', Buffer.alloc(28)],
    ['truncated: the Android sparse image ends too early', header(1, 1).subarray(0, 20)],
    [
      'truncated: the Android sparse image ends too early',
      Buffer.concat([header(1, 1), chunk(HOLE, 1).subarray(1)]),
    ],
    [
      'truncated: the Android sparse image ends too early',
      Buffer.concat([header(2, 1), chunk(RAW, 2, Buffer.alloc(2 * BLOCK)).subarray(0, -1)]),
    ],
    [
      'damaged: the Android sparse image has fewer blocks than its header says',
      Buffer.concat([header(2, 1), chunk(HOLE, 1)]),
    ],
    [
      'damaged: the Android sparse image has more blocks than its header says',
      Buffer.concat([header(1, 1), chunk(HOLE, 2)]),
    ],
    [
      'damaged: the Android sparse image has a chunk of a wrong length',
      Buffer.concat([header(1, 1), chunk(RAW, 1)]),
    ],
    [
      'damaged: the Android sparse image has a chunk of the unknown kind 7',
      Buffer.concat([header(1, 1), chunk(7, 1)]),
    ],
    ['damaged: the Android sparse image has a wrong header', header(1, 1).fill(0, 12, 16)],
    ['unsupported: the Android sparse image has version 2, and only 1 is known', header(1, 1).fill(2, 4, 5)],
  ])('is refused: %s', async (why, file) => {
    expect(await failureOf(file)).toBe(why);
  });
});
