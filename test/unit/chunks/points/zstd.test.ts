// The seek table of zstd files.

import { beforeAll, describe, expect, it } from 'vitest';
import { type Input, START } from '../../../../src/chunks/contract/coding.js';
import { createZstdDecoder } from '../../../../src/chunks/decode/zstd.js';
import { findZstdPoints } from '../../../../src/chunks/points/zstd.js';
import { decodeAll, sampleBytes, throughShell } from '../../../support/chunks/decoding.js';
import { requirePrograms } from '../../../support/run/requires.js';

/** A frame in a file, and its decoded bytes. */
interface Frame {
  readonly bytes: Buffer;
  readonly length: number;
}

const PLAIN = sampleBytes(1_000_000, 11);
const CUTS = [0, 300_000, 300_001, 600_000, 1_000_000];

/** The frames of PLAIN, with a skippable and an empty frame between them. */
let frames: Frame[];

beforeAll(async () => {
  requirePrograms('zstd');
  frames = [];
  for (const [index, start] of CUTS.slice(0, -1).entries()) {
    const bytes = PLAIN.subarray(start, CUTS[index + 1]);
    // Some frames say their size, others do not.
    const line = index % 2 === 0 ? 'zstd -q "$1" -o "$2"' : 'zstd -q <"$1" >"$2"';
    frames.push({ bytes: await throughShell(line, bytes), length: bytes.length });
  }
  const empty = await throughShell('zstd -q <"$1" >"$2"', Buffer.alloc(0));
  frames.splice(
    2,
    0,
    { bytes: Buffer.from('542a4d1800000000', 'hex'), length: 0 },
    { bytes: empty, length: 0 },
  );
});

interface TableOptions {
  readonly withChecksums?: boolean;
  readonly descriptor?: number;
  readonly magic?: number;
  readonly count?: number;
}

/** The seek table of frames. */
function seekTable(entries: readonly Frame[], options: TableOptions = {}): Buffer {
  const { withChecksums = false, magic = 0x184d2a5e, count = entries.length } = options;
  const entryLength = withChecksums ? 12 : 8;
  const table = Buffer.alloc(8 + entries.length * entryLength + 9);
  table.writeUInt32LE(magic, 0);
  table.writeUInt32LE(table.length - 8, 4);
  for (const [index, { bytes, length }] of entries.entries()) {
    table.writeUInt32LE(bytes.length, 8 + index * entryLength);
    table.writeUInt32LE(length, 8 + index * entryLength + 4);
  }
  table.writeUInt32LE(count, table.length - 9);
  table.writeUInt8(options.descriptor ?? (withChecksums ? 0x80 : 0), table.length - 5);
  table.writeUInt32LE(0x8f92eab1, table.length - 4);
  return table;
}

const fileOf = (table: Buffer): Buffer => Buffer.concat([...frames.map(({ bytes }) => bytes), table]);

function inputOf(file: Buffer): Input {
  return {
    size: file.length,
    parallel: 1,
    async read(offset, length) {
      if (offset < 0 || length < 1 || offset + length > file.length)
        throw new Error(`read of ${length} at ${offset}`);
      return file.subarray(offset, offset + length);
    },
    close: async () => undefined,
  };
}

const find = (file: Buffer) => findZstdPoints(inputOf(file));

describe('seek table of a zstd file', () => {
  it.each([false, true])('gives size and points (checksums: %s)', async (withChecksums) => {
    const file = fileOf(seekTable(frames, { withChecksums }));
    const found = await find(file);
    expect(found?.size).toBe(PLAIN.length);
    expect(found?.points.map(({ out }) => out)).toEqual([0, 300_000, 600_000]);
    for (const point of found?.points ?? []) {
      const { bytes, failure } = decodeAll(createZstdDecoder(point, 1), file);
      expect(failure).toBeUndefined();
      expect(bytes.equals(PLAIN.subarray(point.out))).toBe(true);
    }
  });

  it('is proven if every frame says its size', async () => {
    expect((await find(fileOf(seekTable(frames))))?.isProven).toBe(false);
    const sized = frames.filter((_, which) => which % 2 === 0);
    const some = { bytes: await throughShell('zstd -q "$1" -o "$2"', PLAIN), length: PLAIN.length };
    const all = [some, sized[0], some];
    const file = Buffer.concat([...all.map(({ bytes }) => bytes), seekTable(all)]);
    expect(await find(file)).toMatchObject({ size: 2 * PLAIN.length + 300_000, isProven: true });
  });

  it('may use bits of the descriptor that have no meaning yet', async () => {
    expect(await find(fileOf(seekTable(frames, { descriptor: 3 })))).toMatchObject({ size: PLAIN.length });
  });

  it('gives at most 2^18 points', async () => {
    // A frame of two blocks of 128 KiB of zeros.
    const frame = { bytes: Buffer.from('28b52ffd00580200100003001000', 'hex'), length: 2 ** 18 };
    expect(decodeAll(createZstdDecoder(START, 1), frame.bytes)).toMatchObject({
      failure: undefined,
      verified: 2 ** 18,
    });
    const many = Array.from({ length: 300_000 }, () => frame);
    const found = await find(Buffer.concat([...many.map(({ bytes }) => bytes), seekTable(many)]));
    expect(found?.size).toBe(300_000 * 2 ** 18);
    expect(found?.points.length).toBe(150_000);
    expect(found?.points[1]).toMatchObject({ in: 2 * frame.bytes.length, out: 2 ** 19 });
  });

  it('is absent from other files', async () => {
    const whole = fileOf(seekTable(frames));
    for (const file of [Buffer.alloc(0), Buffer.alloc(17), frames[0].bytes, whole.subarray(0, -1)]) {
      expect(await find(file)).toBeUndefined();
    }
  });

  it.each<[string, () => Buffer]>([
    ['reserved bits', () => seekTable(frames, { descriptor: 4 })],
    ['another magic number', () => seekTable(frames, { magic: 0x184d2a5d })],
    ['no frames', () => seekTable([])],
    ['too many frames', () => seekTable(frames, { count: 0x7000000 })],
    ['a frame too few', () => seekTable(frames.slice(1))],
    ['a frame too many', () => seekTable([...frames, frames[0]])],
    ['the sizes of other frames', () => seekTable(frames.toReversed())],
    ['a wrong decoded size', () => seekTable(frames.with(0, { ...frames[0], length: 299_999 }))],
    ['bytes in a skippable frame', () => seekTable(frames.with(2, { ...frames[2], length: 1 }))],
  ])('is ignored with %s', async (_, table) => expect(await find(fileOf(table()))).toBeUndefined());

  it('must fit what the frames decode to', async () => {
    // The second frame does not say its size.
    for (const length of [0, 2]) {
      const file = fileOf(seekTable(frames.with(1, { ...frames[1], length })));
      const points = (await find(file))?.points ?? [];
      const failures = points.map((point) => decodeAll(createZstdDecoder(point, 1), file).failure?.message);
      expect(failures).toContain('the seek table of the zstd data is wrong');
    }
  });
});
