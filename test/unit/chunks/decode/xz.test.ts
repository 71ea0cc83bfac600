// The xz decoder beside xz, with the system's liblzma and with nbdfuse's own.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type RestartPoint, START } from '../../../../src/chunks/contract/coding.js';
import { createDecoder } from '../../../../src/chunks/decode/decoder.js';
import { useLiblzma } from '../../../../src/chunks/decode/liblzma.js';
import { chooseLiblzma, SYSTEM_LIBLZMA } from '../../../../src/chunks/decode/liblzma-file.js';
import { crc32 } from '../../../../src/partitions/crc32.js';
import {
  type Cuts,
  type Decoded,
  decodeAll,
  decodeFromEverywhere,
  sampleBytes,
  throughShell,
} from '../../../support/chunks/decoding.js';
import { FAST_LIBLZMA, lzmaVersionOf } from '../../../support/chunks/liblzma.js';
import { createScope } from '../../../support/cleanup.js';
import { requirePrograms } from '../../../support/run/requires.js';

const create = (from: RestartPoint, spacing: number) => createDecoder('xz', from, spacing);
const decode = (file: Uint8Array, cuts?: Cuts, from: RestartPoint = START, spacing = 1): Decoded =>
  decodeAll(create(from, spacing), file, cuts);

const PLAIN = sampleBytes(700_000, 1);
const PARTS = [PLAIN.subarray(0, 300_000), PLAIN.subarray(300_000, 300_001), PLAIN.subarray(300_001)];
const xz = (options: string, plain: Uint8Array = PLAIN): Promise<Buffer> =>
  throughShell(`xz -c ${options} "$1" >"$2"`, plain);

/** PLAIN in one block. */
let single: Buffer;
/** PLAIN in several streams of several blocks with different checks, with padding. */
let streams: Buffer;

beforeAll(async () => {
  requirePrograms('xz');
  single = await xz('-0');
  const options = [
    '-0 --check=crc32 --block-size=100KiB',
    '-0 --check=sha256',
    '-0 --block-list=50000,1,70000',
  ];
  const parts = [];
  for (const [index, part] of PARTS.entries()) {
    parts.push(await xz(options[index], part), Buffer.alloc(4 * index), await xz('-0', Buffer.alloc(0)));
  }
  streams = Buffer.concat([...parts, Buffer.alloc(8)]);
});

/** The decoded offsets of a file's restart points; it must decode to PLAIN from each. */
const pointsOf = (file: Buffer): number[] => decodeFromEverywhere(create, file, PLAIN);

/** nbdfuse's own is for x86-64. */
const OWN = fileURLToPath(new URL('../../../../packaging/liblzma/liblzma-x64.so', import.meta.url));
const LIBRARIES = process.arch === 'x64' ? [SYSTEM_LIBLZMA, OWN] : [SYSTEM_LIBLZMA];

describe('choice of liblzma', () => {
  it.skipIf(LIBRARIES.length === 1)("is a fast one: the system's, if it is at least 5.6", () => {
    const isFast = lzmaVersionOf(SYSTEM_LIBLZMA) >= FAST_LIBLZMA;
    expect(chooseLiblzma(OWN)).toBe(isFast ? SYSTEM_LIBLZMA : OWN);
    expect(lzmaVersionOf(OWN)).toBeGreaterThanOrEqual(FAST_LIBLZMA);
  });

  it.skipIf(LIBRARIES.length === 1)(
    "is the system's if nbdfuse's own is missing, of another kind, or cut short",
    () => {
      const scope = createScope();
      const whole = readFileSync(OWN);
      const cut = [0, 64, 4096, 100_000, whole.length - 1].map((length) => {
        const path = scope.path(`${length}.so`);
        writeFileSync(path, whole.subarray(0, length));
        return path;
      });
      for (const path of ['/nowhere/liblzma.so', fileURLToPath(import.meta.url), ...cut]) {
        expect(chooseLiblzma(path), path).toBe(SYSTEM_LIBLZMA);
        useLiblzma(chooseLiblzma(path));
        expect(decode(single).bytes.equals(PLAIN)).toBe(true);
      }
    },
  );
});

describe.each(LIBRARIES)('xz decoder with %s', (library) => {
  beforeAll(() => void useLiblzma(library));

  it('decodes a file of one block', () => expect(pointsOf(single)).toEqual([]));

  it('decodes several streams and padding, and restarts at each stream and block', () =>
    expect(pointsOf(streams)).toEqual([
      102_400, 204_800, 300_000, 300_001, 350_001, 350_002, 420_002, 490_002, 560_002, 630_002,
    ]));

  it('gives restart points that are `spacing` apart', () =>
    expect(decode(streams, {}, START, 200_000).points.map(({ out }) => out)).toEqual([
      204_800, 420_002, 630_002,
    ]));

  it.each([
    '-9',
    '-T2 --block-size=65537',
    '--check=none --block-size=100000',
    '--check=crc32 --block-size=100000',
    '--check=crc64 --block-size=100000',
    '--check=sha256 --block-size=100000',
    '--x86 --lzma2=preset=0 --block-size=100000',
    '--delta=dist=3 --lzma2=preset=1',
    '--x86 --delta=dist=3 --delta=dist=1 --lzma2=preset=0',
  ])('decodes what xz %s makes', async (options) => {
    const points = pointsOf(await xz(options));
    if (options.includes('block-size')) expect(points.length).toBeGreaterThan(5);
    else expect(points).toEqual([]);
  });

  it('decodes a file of no bytes', async () =>
    expect(decode(await xz('', Buffer.alloc(0)))).toMatchObject({
      failure: undefined,
      points: [],
      verified: 0,
    }));

  it('decodes input byte by byte, and to outputs of a byte', () => {
    expect(decode(streams, { pushes: [1], pulls: [8192] }).bytes.equals(PLAIN)).toBe(true);
    const rest = decode(streams, { pulls: [...Array.from({ length: 30_000 }, () => 1), 50_000] });
    expect(rest.bytes.equals(PLAIN)).toBe(true);
  });

  it('decodes with any sizes of input and output', () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 200_000 })), {
      minLength: 1,
      maxLength: 20,
    });
    fc.assert(
      fc.property(fc.boolean(), sizes, sizes, (isSingle, pushes, pulls) => {
        const { bytes, failure } = decode(isSingle ? single : streams, { pushes, pulls: [...pulls, 50_000] });
        expect(failure).toBeUndefined();
        expect(bytes.equals(PLAIN)).toBe(true);
      }),
      { numRuns: 30, seed: 1 },
    );
  });
});

describe.each(LIBRARIES)('xz decoder, damaged files, with %s', (library) => {
  beforeAll(() => void useLiblzma(library));

  it('says that a file is truncated, wherever it ends', () => {
    for (const file of [streams, single]) {
      const step = Math.ceil(file.length / 25);
      for (let length = 0; length < file.length; length += length < 40 ? 1 : step) {
        const { bytes, failure, verified } = decode(file.subarray(0, length));
        expect(bytes.equals(PLAIN.subarray(0, bytes.length))).toBe(true);
        expect(failure).toMatchObject({ reason: 'truncated', out: bytes.length, in: length });
        expect(verified).toBeLessThanOrEqual(bytes.length);
      }
    }
  });

  it.each(['\xfd', 'garbage', '\0', '\0\0\0\0\0', '\0\0\0\0garbage and more'])(
    'refuses %j behind the last stream, as xz does',
    (garbage) => {
      const file = Buffer.concat([single, Buffer.from(garbage, 'latin1')]);
      const { bytes, failure, verified } = decode(file);
      expect(bytes.equals(PLAIN)).toBe(true);
      expect(verified).toBe(PLAIN.length);
      expect(failure).toMatchObject({
        reason: garbage === '\xfd' ? 'truncated' : 'damaged',
        out: PLAIN.length,
      });
    },
  );

  it('refuses other files', () =>
    expect(decode(sampleBytes(1000, 3)).failure).toMatchObject({ reason: 'damaged', in: 12, out: 0 }));

  it('gives no wrong byte as verified if a bit is flipped', () => {
    fc.assert(
      fc.property(fc.nat(streams.length * 8 - 1), (bit) => {
        const file = Buffer.from(streams);
        file[bit >> 3] ^= 1 << (bit & 7);
        const { bytes, verified, failure } = decode(file);
        expect(failure).toBeDefined();
        expect(failure?.out).toBeLessThanOrEqual(bytes.length);
        expect(bytes.subarray(0, failure?.out).equals(PLAIN.subarray(0, failure?.out))).toBe(true);
        expect(bytes.subarray(0, verified).equals(PLAIN.subarray(0, verified))).toBe(true);
      }),
      { numRuns: 60, seed: 2 },
    );
  });

  it('refuses a dictionary of more than 1 GiB', async () => {
    const file = await xz('-0');
    // The header of the only block: size, flags, LZMA2, length of its properties, dictionary; then its CRC-32.
    expect([...file.subarray(12, 16)]).toEqual([2, 0, 0x21, 1]);
    file[16] = 39;
    file.writeUInt32LE(crc32(file.subarray(12, 20)), 20);
    expect(decode(file).failure).toMatchObject({ reason: 'memory', out: 0 });
  });
});
