// The zstd decoder beside zstd and pzstd.

import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type RestartPoint, START } from '../../../../src/chunks/contract/coding.js';
import { createZstdDecoder } from '../../../../src/chunks/decode/zstd.js';
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
  decodeAll(createZstdDecoder(from, spacing), file, cuts);

const SKIPPABLE = Buffer.from('5a2a4d1804000000abcdef01', 'hex');
const PLAIN = sampleBytes(700_000, 1);
const PARTS = [PLAIN.subarray(0, 300_000), PLAIN.subarray(300_000, 300_001), PLAIN.subarray(300_001)];

/** PLAIN by `zstd`, in one frame with a checksum. */
let checked: Buffer;
/** PLAIN in three frames with checksums, and skippable frames. */
let frames: Buffer;
let unchecked: Buffer;

beforeAll(async () => {
  requirePrograms('zstd', 'pzstd');
  checked = await throughShell('zstd -q "$1" -o "$2"', PLAIN);
  unchecked = await throughShell('zstd -q --no-check "$1" -o "$2"', PLAIN);
  const parts = [];
  for (const part of PARTS) parts.push(SKIPPABLE, await throughShell('zstd -q "$1" -o "$2"', part));
  frames = Buffer.concat([...parts, SKIPPABLE, SKIPPABLE]);
});

/** The decoded offsets of a file's restart points; it must decode to PLAIN from each. */
const pointsOf = (file: Buffer): number[] => decodeFromEverywhere(createZstdDecoder, file, PLAIN);

describe('zstd decoder', () => {
  it('decodes a frame with a checksum, and one without', () => {
    expect(pointsOf(checked)).toEqual([]);
    expect(pointsOf(unchecked)).toEqual([]);
  });

  it('decodes several frames and skippable frames, and restarts at each', () =>
    expect(pointsOf(frames)).toEqual([300_000, 300_001]));

  it('gives restart points that are `spacing` apart', () => {
    expect(decode(frames, {}, START, 300_001).points.map(({ out }) => out)).toEqual([300_001]);
    expect(decode(frames, {}, START, 500_000).points).toEqual([]);
  });

  it.each(['-1', '-19', '--ultra -22 --long=27', '--fast=50', '--format=zstd -T2 -B100000'])(
    'decodes what zstd %s makes',
    async (options) =>
      expect(pointsOf(await throughShell(`zstd -q ${options} "$1" -o "$2"`, PLAIN))).toEqual([]),
  );

  it('decodes what zstd makes of a pipe', async () =>
    expect(pointsOf(await throughShell('zstd -q <"$1" >"$2"', PLAIN))).toEqual([]));

  it('decodes what pzstd makes, and restarts at its frames', async () => {
    const file = await throughShell(
      'for i in 1 2 3 4 5 6 7 8 9; do cat "$1"; done | pzstd -q -1 -p 2 -o "$2"',
      PLAIN,
    );
    const plain = Buffer.concat(Array.from({ length: 9 }, () => PLAIN));
    expect(decodeFromEverywhere(createZstdDecoder, file, plain)).not.toEqual([]);
  });

  it('decodes empty frames, and a file of skippable frames only', async () => {
    const empty = await throughShell('zstd -q "$1" -o "$2"', Buffer.alloc(0));
    for (const file of [empty, SKIPPABLE, Buffer.concat([empty, SKIPPABLE, empty])]) {
      expect(decode(file)).toMatchObject({ failure: undefined, points: [], verified: 0 });
    }
  });

  it('decodes blocks of zeros and blocks that do not compress', async () => {
    const plain = Buffer.concat([Buffer.alloc(1_000_000), sampleBytes(5000, 2), Buffer.alloc(300_000)]);
    for (let at = 400_000; at < 700_000; at++) plain[at] = Math.imul(at, 0x9e3779b1) >>> 24;
    const file = await throughShell('zstd -q "$1" -o "$2"', plain);
    expect(decode(file).bytes.equals(plain)).toBe(true);
  });

  it('decodes input byte by byte, and to outputs of a byte', () => {
    expect(decode(frames, { pushes: [1], pulls: [8192] }).bytes.equals(PLAIN)).toBe(true);
    const rest = decode(frames, { pulls: [...Array.from({ length: 30_000 }, () => 1), 50_000] });
    expect(rest.bytes.equals(PLAIN)).toBe(true);
  });

  it('decodes with any sizes of input and output', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200_000 })), {
      minLength: 1,
      maxLength: 20,
    });
    const file = fc.constantFrom('checked', 'unchecked', 'frames');
    fc.assert(
      fc.property(file, sizes, sizes, (name, pushes, pulls) => {
        const { bytes, failure } = decode({ checked, unchecked, frames }[name], {
          pushes,
          pulls: [...pulls, 50_000],
        });
        expect(failure).toBeUndefined();
        expect(bytes.equals(PLAIN)).toBe(true);
      }),
      { numRuns: 60, seed: 1 },
    );
  });
});

describe('zstd decoder, damaged files', () => {
  it('says that a file is truncated, wherever it ends', () => {
    for (const file of [frames, unchecked]) {
      for (let length = 0; length < file.length; length += length < 40 ? 1 : 4999) {
        const { bytes, failure, verified } = decode(file.subarray(0, length));
        expect(bytes.equals(PLAIN.subarray(0, bytes.length))).toBe(true);
        // A file may end behind a frame.
        if (failure === undefined) expect(length).toBe(SKIPPABLE.length);
        else expect(failure).toMatchObject({ reason: 'truncated', out: bytes.length, in: length });
        expect(verified).toBeLessThanOrEqual(bytes.length);
      }
    }
  });

  it('refuses an empty file, as zstd does', () =>
    expect(decode(Buffer.alloc(0)).failure?.reason).toBe('truncated'));

  it.each(['g', 'gar', 'garbage and more', '\0\0\0\0\0\0\0\0', '\x28\xb5\x2e'])(
    'refuses %j behind the last frame',
    (garbage) => {
      const { bytes, failure, verified } = decode(Buffer.concat([checked, Buffer.from(garbage, 'latin1')]));
      expect(bytes.equals(PLAIN)).toBe(true);
      expect(verified).toBe(PLAIN.length);
      expect(failure).toMatchObject({ reason: 'damaged', out: PLAIN.length });
    },
  );

  it('gives no wrong byte as verified if a bit is flipped', () => {
    fc.assert(
      fc.property(fc.nat(frames.length * 8 - 1), (bit) => {
        const file = Buffer.from(frames);
        file[bit >> 3] ^= 1 << (bit & 7);
        const { bytes, verified } = decode(file);
        expect(bytes.subarray(0, verified).equals(PLAIN.subarray(0, verified))).toBe(true);
      }),
      { numRuns: 100, seed: 2 },
    );
  });

  it('gives the blocks before the damaged one', () => {
    const file = Buffer.from(unchecked);
    file.fill(0xff, file.length - 2000);
    const { bytes, failure } = decode(file, { pushes: [file.length], pulls: [PLAIN.length] });
    expect(failure).toMatchObject({ reason: 'damaged', out: bytes.length });
    expect(bytes.length).toBe(5 * 128 * 1024);
    expect(bytes.equals(PLAIN.subarray(0, bytes.length))).toBe(true);
  });

  it('refuses a wrong checksum of a frame', () => {
    const file = Buffer.from(checked);
    file[file.length - 1] ^= 1;
    expect(decode(file)).toMatchObject({ verified: 0, failure: { reason: 'damaged', out: 0 } });
  });

  it('refuses a window above 128 MiB for its memory, as zstd does', async () => {
    const file = await throughShell('zstd -q --ultra --long=28 <"$1" >"$2"', PLAIN);
    expect(decode(file).failure?.reason).toBe('memory');
  });

  it('refuses a frame that needs a dictionary', async () => {
    const train = 'zstd -q --train -B300 --maxdict=2000 "$1" -o "$2.dictionary"';
    const file = await throughShell(`${train} && zstd -q -D "$2.dictionary" "$1" -o "$2"`, PLAIN);
    expect(decode(file).failure?.reason).toBe('unsupported');
  });
});
