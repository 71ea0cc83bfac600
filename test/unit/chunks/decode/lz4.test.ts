// The lz4 decoder beside lz4.

import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type RestartPoint, START } from '../../../../src/chunks/contract/coding.js';
import { createLz4Decoder } from '../../../../src/chunks/decode/lz4.js';
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
  decodeAll(createLz4Decoder(from, spacing), file, cuts);

const SKIPPABLE = Buffer.from('5f2a4d1804000000abcdef01', 'hex');
const PLAIN = sampleBytes(300_000, 3);
/** Decoded offsets of the independent blocks of 64 KiB in PLAIN. */
const BLOCKS = [65536, 131072, 196608, 262144];
const LEGACY_MAGIC = 4;

const compress = (options: string, bytes: Uint8Array = PLAIN): Promise<Buffer> =>
  throughShell(`lz4 -q ${options} "$1" "$2"`, bytes);

/** The decoded offsets of a file's restart points; it must decode to `plain` from each. */
const pointsOf = (file: Buffer, plain: Buffer = PLAIN): number[] =>
  decodeFromEverywhere(createLz4Decoder, file, plain);

/** PLAIN in independent blocks of 64 KiB, with checksums of the content, of blocks too, and without any. */
let files: { readonly checked: Buffer; readonly blocks: Buffer; readonly unchecked: Buffer };
/** PLAIN in blocks that depend on each other. */
let linked: Buffer;
let legacy: Buffer;

beforeAll(async () => {
  requirePrograms('lz4');
  files = {
    checked: await compress('-B4 -BI'),
    blocks: await compress('-B4 -BI -BX'),
    unchecked: await compress('-B4 -BI --no-frame-crc'),
  };
  linked = await compress('-B4 -BD');
  legacy = await compress('-l');
});

describe('lz4 decoder', () => {
  it('decodes independent blocks, and restarts at each', () => {
    for (const file of Object.values(files)) expect(pointsOf(file)).toEqual(BLOCKS);
  });

  it('decodes linked blocks, without restart points in a frame', () => {
    expect(pointsOf(linked)).toEqual([]);
    expect(pointsOf(Buffer.concat([linked, linked]), Buffer.concat([PLAIN, PLAIN]))).toEqual([PLAIN.length]);
  });

  it.each(['-1', '-12', '-B5', '-B6', '-B7', '--content-size', '--content-size -B4 -BX', '--fast=9'])(
    'decodes what lz4 %s makes',
    async (options) => expect(pointsOf(await compress(options)).length).toBeLessThanOrEqual(BLOCKS.length),
  );

  it('decodes the legacy format, and restarts at its blocks', async () => {
    const plain = Buffer.concat([Buffer.alloc(8 * 1024 * 1024 - 1000), PLAIN]);
    expect(pointsOf(legacy)).toEqual([]);
    expect(pointsOf(await compress('-l', plain), plain)).toEqual([8 * 1024 * 1024]);
  });

  it('decodes frames of all kinds one behind the other, as lz4 does', () => {
    const file = Buffer.concat([
      SKIPPABLE,
      legacy,
      legacy,
      files.blocks,
      SKIPPABLE,
      linked,
      files.checked,
      legacy,
      SKIPPABLE,
    ]);
    expect(pointsOf(file, Buffer.concat(Array.from({ length: 6 }, () => PLAIN)))).toContain(5 * PLAIN.length);
  });

  it('decodes empty frames and an empty file', async () => {
    const empty = await compress('', Buffer.alloc(0));
    for (const file of [
      empty,
      Buffer.alloc(0),
      SKIPPABLE,
      legacy.subarray(0, LEGACY_MAGIC),
      Buffer.concat([empty, empty]),
    ]) {
      expect(decode(file)).toMatchObject({ failure: undefined, points: [], verified: 0 });
    }
  });

  it('decodes blocks that are not compressed', async () => {
    const plain = Buffer.from(
      Uint8Array.from({ length: 200_000 }, (_, at) => Math.imul(at, 0x9e3779b1) >>> 24),
    );
    for (let at = 0; at < plain.length; at++) plain[at] ^= Math.imul(at * at, 0x85ebca6b) >>> 23;
    for (const options of ['-B4', '-B4 -BX', '-B4 -BD']) {
      const file = await compress(options, plain);
      expect(file.length).toBeGreaterThan(plain.length);
      pointsOf(file, plain);
    }
  });

  it('decodes input byte by byte, and to outputs of a byte', () => {
    for (const file of [files.blocks, linked, legacy]) {
      expect(decode(file, { pushes: [1], pulls: [4096] }).bytes.equals(PLAIN)).toBe(true);
      const pulls = [...Array.from({ length: 10_000 }, () => 1), 50_000];
      expect(decode(file, { pulls }).bytes.equals(PLAIN)).toBe(true);
    }
  });

  it('decodes with any sizes of input and output', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200_000 })), {
      minLength: 1,
      maxLength: 20,
    });
    const file = fc.constantFrom(...Object.values(files), linked, legacy);
    fc.assert(
      fc.property(file, sizes, sizes, (bytes, pushes, pulls) => {
        const result = decode(bytes, { pushes: [...pushes, 5000], pulls: [...pulls, 50_000] });
        expect(result.failure).toBeUndefined();
        expect(result.bytes.equals(PLAIN)).toBe(true);
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it('verifies each block that has a checksum, and else the frame', () => {
    const half = files.blocks.subarray(0, files.blocks.length / 2);
    expect(BLOCKS).toContain(decode(half).verified);
    expect(decode(files.checked.subarray(0, files.checked.length / 2)).verified).toBe(0);
    const unchecked = decode(files.unchecked.subarray(0, files.unchecked.length / 2));
    expect(unchecked.verified).toBe(unchecked.bytes.length);
  });
});

describe('lz4 decoder, damaged files', () => {
  it('says that a file is truncated, wherever it ends', () => {
    for (const file of [files.checked, files.blocks, linked, legacy]) {
      for (let length = 1; length < file.length; length += length < 40 ? 1 : 4999) {
        const { bytes, failure } = decode(file.subarray(0, length));
        expect(bytes.equals(PLAIN.subarray(0, bytes.length))).toBe(true);
        if (file === legacy && length === LEGACY_MAGIC) expect(failure).toBeUndefined();
        else expect(failure).toMatchObject({ reason: 'truncated', out: bytes.length, in: length });
      }
    }
  });

  it('ignores the end of the file in a skippable frame, as lz4 does', () => {
    const file = Buffer.concat([linked, SKIPPABLE.subarray(0, -1)]);
    const { bytes, failure } = decode(file);
    expect(failure).toBeUndefined();
    expect(bytes.equals(PLAIN)).toBe(true);
  });

  it.each(['g', 'gar', 'garbage and more', '\0\0\0\0\0\0\0\0'])(
    'refuses %j behind the last frame',
    (garbage) => {
      const { bytes, failure } = decode(Buffer.concat([linked, Buffer.from(garbage, 'latin1')]));
      expect(bytes.equals(PLAIN)).toBe(true);
      expect(failure).toMatchObject({ reason: 'damaged', out: PLAIN.length });
    },
  );

  it('gives no wrong byte as verified if a bit is flipped', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(files.checked, files.blocks, linked),
        fc.nat(2 ** 30),
        (original, place) => {
          const bit = place % (original.length * 8);
          const file = Buffer.from(original);
          file[bit >> 3] ^= 1 << (bit & 7);
          const { bytes, verified } = decode(file);
          expect(bytes.subarray(0, verified).equals(PLAIN.subarray(0, verified))).toBe(true);
        },
      ),
      { numRuns: 200, seed: 2 },
    );
  });

  it('gives the blocks before the damaged one', () => {
    const file = Buffer.from(files.blocks);
    file[file.length - 100] ^= 1;
    const { bytes, failure, verified } = decode(file, { pushes: [file.length], pulls: [PLAIN.length] });
    expect(failure).toMatchObject({ reason: 'damaged', out: 262144 });
    expect(bytes.equals(PLAIN.subarray(0, 262144))).toBe(true);
    expect(verified).toBe(262144);
  });

  it('refuses a wrong checksum of the content', () => {
    const file = Buffer.from(files.checked);
    file[file.length - 1] ^= 1;
    expect(decode(file)).toMatchObject({ verified: 0, failure: { reason: 'damaged', out: 0 } });
  });

  it('refuses a damaged block of the legacy format', () => {
    const file = Buffer.from(legacy);
    file.fill(0, 20, 4000);
    expect(decode(file).failure).toMatchObject({ reason: 'damaged', out: 0 });
  });
});
