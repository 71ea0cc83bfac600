// The bzip2 decoder beside bzip2, pbzip2 and lbzip2.

import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type RestartPoint, START } from '../../../../src/chunks/contract/coding.js';
import { createBzip2Decoder } from '../../../../src/chunks/decode/bzip2.js';
import {
  type Cuts,
  type Decoded,
  decodeAll,
  decodeFromEverywhere,
  sampleBytes,
  throughShell,
} from '../../../support/chunks/decoding.js';
import { requirePrograms } from '../../../support/run/requires.js';

const decode = (file: Uint8Array, cuts?: Cuts, from: RestartPoint = START, spacing = 1): Decoded =>
  decodeAll(createBzip2Decoder(from, spacing), file, cuts);

const PLAIN = sampleBytes(350_000, 5);
/** The magic numbers of a block and of the end of a stream. */
const MAGICS = ['314159265359', '177245385090'].map((text) => Buffer.from(text, 'hex'));

const compress = (command: string, bytes: Uint8Array = PLAIN): Promise<Buffer> =>
  throughShell(`${command} <"$1" >"$2"`, bytes);

/** The decoded offsets of a file's restart points; it must decode to `plain` from each. */
const pointsOf = (file: Buffer, plain: Buffer = PLAIN): number[] =>
  decodeFromEverywhere(createBzip2Decoder, file, plain);

/** PLAIN in one stream with blocks of 100 kB. */
let stream: Buffer;
/** The decoded offsets of the second and later blocks of `stream`. */
let blocks: number[];
let empty: Buffer;

beforeAll(async () => {
  requirePrograms('bzip2', 'pbzip2', 'lbzip2');
  stream = await compress('bzip2 -1');
  blocks = pointsOf(stream);
  empty = await compress('bzip2', Buffer.alloc(0));
});

describe('bzip2 decoder', () => {
  it('restarts at each block, at any bit', async () => {
    expect(blocks.map((out) => Math.round(out / 100_000))).toEqual([1, 2, 3]);
    const plain = sampleBytes(2_400_000, 6);
    const file = await compress('bzip2 -1', plain);
    const { points } = decode(file);
    const ofBits = new Map(points.map((point) => [point.state?.[0], point]));
    expect([...ofBits.keys()].toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (const point of ofBits.values()) {
      expect(decode(file, {}, point).bytes.equals(plain.subarray(point.out))).toBe(true);
    }
  });

  it('restarts at streams and their blocks', () => {
    const plain = Buffer.concat([PLAIN, PLAIN, PLAIN]);
    const points = pointsOf(Buffer.concat([stream, empty, stream, stream]), plain);
    expect(points).toEqual(
      [0, 1, 2].flatMap((index) => [0, ...blocks].map((out) => index * PLAIN.length + out)).slice(1),
    );
  });

  it('gives restart points that are `spacing` apart', () => {
    expect(decode(stream, {}, START, 150_000).points.map(({ out }) => out)).toEqual([blocks[1]]);
  });

  it.each(['bzip2 -9', 'bzip2 -5', 'pbzip2 -b1 -p2', 'pbzip2 -9', 'lbzip2 -1', 'lbzip2 -n2'])(
    'decodes what %s makes',
    async (command) => expect(pointsOf(await compress(command)).length).toBeLessThanOrEqual(4),
  );

  it('decodes long runs', async () => {
    const plain = Buffer.concat([Buffer.alloc(5_000_000), PLAIN, Buffer.alloc(7_000_000, 1), PLAIN]);
    expect(pointsOf(await compress('bzip2 -1', plain), plain)).not.toEqual([]);
  });

  it('decodes empty streams', () => {
    for (const file of [empty, Buffer.concat([empty, empty, empty])]) {
      expect(decode(file)).toMatchObject({ failure: undefined, points: [], verified: 0 });
    }
  });

  it('verifies each block', () => {
    const { bytes, verified } = decode(stream.subarray(0, stream.length - 1000));
    expect(verified).toBe(blocks[2]);
    expect(bytes.length).toBe(blocks[2]);
  });

  it('takes no magic number in the data for a block', async () => {
    // A block begins with a bit for each value of a byte: whether it occurs. These values make the magic numbers of a
    // block and of the end of a stream.
    const bits = Buffer.concat(MAGICS);
    const values = [...Array(bits.length * 8).keys()].filter((bit) => bits[bit >> 3] & (0x80 >> (bit & 7)));
    // No byte follows itself: bzip2 would add other values as the lengths of runs.
    let which = 0;
    const plain = sampleBytes(250_000, 7).map((byte) => {
      which = (which + 1 + (byte % (values.length - 1))) % values.length;
      return values[which];
    });
    const file = await compress('bzip2 -1', plain);
    const fileBits = [...file].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    const magicBits = [...MAGICS[0]].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    expect(fileBits.split(magicBits).length - 1).toBe(2 * 3);
    const points = pointsOf(file, Buffer.from(plain));
    expect(points.map((out) => Math.round(out / 100_000))).toEqual([1, 2]);
    expect(decode(file, { pushes: [1] }).points.map(({ out }) => out)).toEqual(points);
  });

  it('gives no point at a magic number in damaged data', () => {
    for (const magic of MAGICS) {
      const file = Buffer.from(stream);
      magic.copy(file, 20_000);
      const { verified, points, failure } = decode(file);
      expect([verified, points.length]).toEqual([0, 0]);
      expect(failure).toMatchObject({ reason: 'damaged', out: 0 });
    }
  });

  it('decodes input byte by byte, and to outputs of a byte', () => {
    const file = Buffer.concat([stream, stream]);
    const plain = Buffer.concat([PLAIN, PLAIN]);
    expect(decode(file, { pushes: [1], pulls: [8192] }).bytes.equals(plain)).toBe(true);
    const point = decode(file).points[1];
    const bytes = Array.from({ length: 10_000 }, () => 1);
    for (const cuts of [{ pushes: [1], pulls: [8192] }, { pulls: [...bytes, 500_000] }]) {
      expect(decode(file, cuts, point).bytes.equals(plain.subarray(point.out))).toBe(true);
    }
  });

  it('decodes with any sizes of input and output, from any point', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200_000 })), {
      minLength: 1,
      maxLength: 20,
    });
    const { points } = decode(stream);
    fc.assert(
      fc.property(fc.constantFrom(START, ...points), sizes, sizes, (point, pushes, pulls) => {
        const cuts = { pushes: [...pushes, 5000], pulls: [...pulls, 50_000] };
        const result = decode(stream, cuts, point);
        expect(result.failure).toBeUndefined();
        expect(result.bytes.equals(PLAIN.subarray(point.out))).toBe(true);
        expect(result.points.map(({ out }) => out)).toEqual(blocks.filter((out) => out > point.out));
      }),
      { numRuns: 60, seed: 1 },
    );
  });
});

describe('bzip2 decoder, damaged files', () => {
  it('says that a file is truncated, wherever it ends', () => {
    const file = Buffer.concat([stream, stream]);
    const plain = Buffer.concat([PLAIN, PLAIN]);
    const { points } = decode(file);
    const ends = [
      ...Array(20).keys(),
      ...Array.from({ length: 20 }, (_, index) => stream.length - 10 + index),
    ];
    for (let length = 5000; length < file.length; length += 9999) ends.push(length);
    for (const length of ends) {
      for (const point of [START, points[1], points[5]].filter((some) => some.in < length)) {
        const { bytes, failure } = decode(file.subarray(0, length), {}, point);
        expect(bytes.equals(plain.subarray(point.out, point.out + bytes.length))).toBe(true);
        if (length === stream.length) expect(failure).toBeUndefined();
        else expect(failure).toMatchObject({ reason: 'truncated', out: point.out + bytes.length });
      }
    }
  });

  it.each(['g', 'gar', 'garbage and more', '\0\0\0\0\0\0\0\0', 'BZx', 'BZh0'])(
    'ignores %j behind the last stream, as bzip2 does',
    (garbage) => {
      const file = Buffer.concat([stream, Buffer.from(garbage, 'latin1')]);
      for (const from of [START, decode(stream).points[2]]) {
        const { bytes, failure, warning, verified } = decode(file, { pushes: [stream.length - 1, 1] }, from);
        expect(bytes.equals(PLAIN.subarray(from.out))).toBe(true);
        expect([failure, verified]).toEqual([undefined, PLAIN.length]);
        expect(warning).toContain('trailing garbage');
      }
    },
  );

  it('refuses the beginning of a stream behind the last one, as bzip2 does', () => {
    for (const [rest, reason] of [
      ['B', 'truncated'],
      ['BZ', 'truncated'],
      ['BZh9', 'truncated'],
      ['BZh9x', 'damaged'],
    ]) {
      const { failure, verified } = decode(Buffer.concat([stream, Buffer.from(rest)]));
      expect([failure?.reason, verified]).toEqual([reason, PLAIN.length]);
    }
  });

  it('refuses other files, and an empty one', () => {
    expect(decode(Buffer.from('other')).failure?.reason).toBe('damaged');
    expect(decode(Buffer.alloc(0)).failure?.reason).toBe('truncated');
  });

  it('refuses a wrong checksum of a stream', () => {
    const file = Buffer.from(stream);
    file[file.length - 3] ^= 1;
    expect(decode(file)).toMatchObject({
      verified: PLAIN.length,
      failure: { reason: 'damaged', out: PLAIN.length },
    });
  });

  it('gives no wrong byte as verified if a bit is flipped', () => {
    const { points } = decode(stream);
    fc.assert(
      fc.property(fc.constantFrom(START, ...points), fc.nat(stream.length * 8 - 1), (from, bit) => {
        const file = Buffer.from(stream);
        file[bit >> 3] ^= 1 << (bit & 7);
        const { bytes, verified } = decode(file, {}, from);
        const count = verified - from.out;
        expect(bytes.subarray(0, count).equals(PLAIN.subarray(from.out, verified))).toBe(true);
      }),
      { numRuns: 100, seed: 2 },
    );
  });

  it('gives the blocks before the damaged one', () => {
    const file = Buffer.from(stream);
    file[file.length - 2000] ^= 1;
    const { bytes, failure, verified } = decode(file, { pushes: [file.length], pulls: [PLAIN.length] });
    expect(failure).toMatchObject({ reason: 'damaged', out: blocks[2] });
    expect(verified).toBe(blocks[2]);
    expect(bytes.subarray(0, verified).equals(PLAIN.subarray(0, verified))).toBe(true);
  });
});
