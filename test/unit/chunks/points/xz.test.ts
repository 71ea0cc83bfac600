// The blocks of xz files, against the real xz.

import { describe, expect, it } from 'vitest';
import { DecodeError, type Input } from '../../../../src/chunks/contract/coding.js';
import { createXzDecoder } from '../../../../src/chunks/decode/xz.js';
import { findXzPoints } from '../../../../src/chunks/points/xz.js';
import { decodeAll, sampleBytes, throughShell } from '../../../support/chunks/decoding.js';
import { streamOf } from '../../../support/chunks/stored-xz.js';

const IMAGE = sampleBytes(5_000_000, 3);

const inputOf = (bytes: Buffer): Input => ({
  size: bytes.length,
  parallel: 1,
  read: (offset, length) => {
    if (offset < 0 || offset + length > bytes.length) throw new Error('a read behind the end');
    return Promise.resolve(bytes.subarray(offset, offset + length));
  },
  close: () => Promise.resolve(),
});

const xz = (bytes: Uint8Array, options: string): Promise<Buffer> =>
  throughShell(`xz -1 ${options} -c < "$1" > "$2"`, bytes);

async function check(file: Buffer, image: Buffer, least: number): Promise<void> {
  const { size, points } = await findXzPoints(inputOf(file));
  expect(size).toBe(image.length);
  expect(points.length).toBeGreaterThanOrEqual(least);
  expect(points[0].out).toBe(0);
  for (const point of points) {
    const { bytes, failure } = decodeAll(createXzDecoder(point, Number.MAX_SAFE_INTEGER), file);
    expect(failure).toBeUndefined();
    expect(bytes.equals(image.subarray(point.out)), `from ${point.out}`).toBe(true);
  }
}

describe('points of an xz file', () => {
  it.each([
    ['--block-size=1200000', 5],
    ['--block-size=100KiB', 4],
    ['--block-list=2000000,10,0', 2],
    ['-T1', 1],
    ['-T2 --block-size=1MiB --check=none', 4],
    ['--check=sha256 --block-size=2MiB', 2],
    ['--x86 --lzma2 --block-size=2MiB', 2],
  ])('are its blocks: xz %s', async (options, least) => {
    await check(await xz(IMAGE, options), IMAGE, least);
  });

  it('are in all streams, which padding may separate and follow', async () => {
    const parts = await Promise.all([
      xz(IMAGE.subarray(0, 2_000_000), '--check=crc32'),
      xz(Buffer.alloc(0), ''),
      xz(IMAGE.subarray(2_000_000), '--check=crc64 --block-size=1MiB'),
    ]);
    const file = Buffer.concat([
      parts[0],
      Buffer.alloc(8),
      parts[1],
      parts[2],
      Buffer.alloc(2 * 1024 * 1024 + 4),
    ]);
    await check(file, IMAGE, 3);
  });

  it('are found in many short streams without reading the file again for each', async () => {
    const stream = await xz(IMAGE.subarray(0, 100), '');
    const file = Buffer.concat(Array.from({ length: 2000 }, () => stream));
    const input = inputOf(file);
    let bytesRead = 0;
    const read = (offset: number, length: number): Promise<Uint8Array> => {
      bytesRead += length;
      return input.read(offset, length);
    };
    expect((await findXzPoints({ ...input, read })).size).toBe(200_000);
    expect(bytesRead).toBeLessThan(2 * file.length);
  });

  it('of an empty image is its beginning', async () => {
    expect(await findXzPoints(inputOf(await xz(Buffer.alloc(0), '')))).toEqual({
      size: 0,
      points: [{ in: 0, out: 0 }],
    });
  });

  it('are refused for more blocks in all streams together than may be kept', async () => {
    const blocks = 2_200_000;
    const stream = streamOf(Buffer.alloc(8 * blocks), blocks, Buffer.alloc(2 * blocks, Buffer.from([5, 1])));
    const file = Buffer.concat([stream, stream]);
    await expect(findXzPoints(inputOf(file))).rejects.toThrow('the file has too many blocks');
  });

  it('are refused for a size that no number has', async () => {
    const most = Buffer.from([5, 255, 255, 255, 255, 255, 255, 255, 15]);
    const one = await findXzPoints(inputOf(streamOf(Buffer.alloc(8), 1, most)));
    expect(one.size).toBe(Number.MAX_SAFE_INTEGER);
    const two = streamOf(Buffer.alloc(16), 2, Buffer.concat([most, most]));
    await expect(findXzPoints(inputOf(two))).rejects.toThrow('the image is too large');
  });

  it('are refused for a file that is cut, damaged at its end, or followed by other data', async () => {
    const file = await xz(IMAGE.subarray(0, 300_000), '--block-size=50000');
    for (let cut = 1; cut < file.length; cut += Math.ceil(file.length / 150)) {
      await expect(findXzPoints(inputOf(file.subarray(0, file.length - cut)))).rejects.toBeInstanceOf(
        DecodeError,
      );
    }
    for (let back = 1; back <= 40; back++) {
      const damaged = Buffer.from(file);
      damaged[file.length - back] ^= 1;
      await expect(findXzPoints(inputOf(damaged)), `${back} from the end`).rejects.toBeInstanceOf(
        DecodeError,
      );
    }
    for (const tail of ['x', 'garbage that is longer than a footer', '\0', '\0\0\0']) {
      const longer = Buffer.concat([file, Buffer.from(tail)]);
      await expect(findXzPoints(inputOf(longer))).rejects.toBeInstanceOf(DecodeError);
    }
    await expect(findXzPoints(inputOf(Buffer.alloc(0)))).rejects.toThrow('the file is empty');
    await expect(findXzPoints(inputOf(Buffer.alloc(64)))).rejects.toThrow('ends too early');
  });
});
