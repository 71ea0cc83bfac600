// The decoders of gzip and deflate, against gzip and pigz.

import { deflateRawSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDecoder } from '../../../../src/chunks/decode/decoder.js';
import { createDeflateDecoder, createGzipDecoder } from '../../../../src/chunks/decode/gzip.js';
import { crc32 } from '../../../../src/partitions/crc32.js';
import { checkCuts, checkDamage, checkPoints, decode, type Make, pack, sample } from './decoding.js';

const make = createGzipDecoder;
const SMALL = sample(300_000);

/** A member with all optional fields. */
function withFields(bytes: Uint8Array): Buffer {
  const plain = gzipSync(bytes);
  const fields = Buffer.concat([
    Buffer.from([3, 0, 1, 2, 3]),
    Buffer.from('a name\0'),
    Buffer.from('a comment\0'),
  ]);
  const head = Buffer.concat([plain.subarray(0, 3), Buffer.from([4 | 8 | 16]), plain.subarray(4, 10)]);
  return Buffer.concat([head, fields, plain.subarray(10)]);
}

describe('gzip', () => {
  it.each(['-1', '-6', '-9'])('is decoded as by gzip -dc, after gzip %s', (level) => {
    const { bytes, verified, error } = decode(make, pack(SMALL, 'gzip', level, '-c'));
    expect(error).toBeUndefined();
    expect(bytes.equals(SMALL)).toBe(true);
    expect(verified).toBe(SMALL.length);
  });

  it('may have several members, fields, zeros and garbage behind them', () => {
    const file = Buffer.concat([
      pack(SMALL.subarray(0, 1000), 'gzip', '-c'),
      withFields(SMALL.subarray(1000, 2000)),
      gzipSync(Buffer.alloc(0)),
      gzipSync(SMALL.subarray(2000), { level: 0 }),
    ]);
    const tails: readonly [Buffer, string | undefined][] = [
      [Buffer.alloc(0), undefined],
      [Buffer.alloc(1), undefined],
      [Buffer.alloc(5000), undefined],
      [Buffer.from('garbage'), 'trailing garbage is ignored'],
      [Buffer.from('x'), 'trailing garbage is ignored'],
      [Buffer.concat([Buffer.alloc(7), Buffer.from('x')]), 'trailing garbage is ignored'],
    ];
    for (const [tail, warning] of tails) {
      for (const push of [3, 100_000]) {
        const found = decode(make, Buffer.concat([file, tail]), { push, pull: 4096 });
        expect(found.error).toBeUndefined();
        expect(found.warning).toBe(warning);
        expect(found.bytes.equals(SMALL)).toBe(true);
      }
    }
  });

  it('of no bytes is empty', () => {
    expect(decode(make, gzipSync('')).bytes.length).toBe(0);
  });

  it('goes on at each restart point, and still checks its members', () => {
    const image = sample(3_000_000, 5);
    const several = Buffer.concat(
      [image.subarray(0, 1_234_567), image.subarray(1_234_567)].map((part) => gzipSync(part)),
    );
    for (const file of [pack(image, 'gzip', '-c'), several]) {
      expect(checkPoints(make, file, image, 100_000)).toBeGreaterThan(15);
    }
    const file = pack(image, 'gzip', '-c');
    const [, , point] = decode(make, file, { spacing: 100_000 }).points;
    file[file.length - 6] ^= 1;
    const { error } = decode(make, file, { from: point });
    expect(error).toMatchObject({ reason: 'damaged', message: 'the CRC of the data is wrong' });
  });

  it('ends with an error when it is cut or damaged', () => {
    const image = SMALL.subarray(0, 20_000);
    const file = withFields(image);
    checkCuts(make, file, image, 200);
    checkDamage(make, file, image, 400);
  });

  it.each([
    ['method', 2, 7, 'unsupported'],
    ['flags', 3, 0xe0, 'unsupported'],
    ['magic', 0, 0, 'damaged'],
  ])('with a wrong %s is refused', (_, at, value, reason) => {
    const file = gzipSync('x');
    file[at] = value;
    expect(decode(make, file).error?.reason).toBe(reason);
  });

  it('of any bytes is decoded in any parts', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 3000 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 5000 }),
        (parts, push, pull) => {
          const file = Buffer.concat(parts.map((part) => gzipSync(part)));
          expect(decode(make, file, { push, pull }).bytes.equals(Buffer.concat(parts))).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('deflate', () => {
  it('is decoded to its end, whatever follows, and goes on at restart points', () => {
    const image = sample(1_000_000, 9);
    const file = deflateRawSync(image);
    expect(decode(createDeflateDecoder, Buffer.concat([file, Buffer.from('PK')])).bytes.equals(image)).toBe(
      true,
    );
    expect(checkPoints(createDeflateDecoder, file, image, 100_000)).toBeGreaterThan(5);
    checkCuts(createDeflateDecoder, file, image, 30);
  });

  it.each([0, 1, 200_000])('of %i bytes in a zip archive is compared with its CRC at its end', (length) => {
    const image = sample(length);
    const checked =
      (...crcs: number[]): Make =>
      (from, spacing) =>
        createDecoder('deflate', from, spacing, { crcs, size: length });
    const [right, file] = [crc32(image), deflateRawSync(image)];
    for (const pull of [length > 1 ? 9973 : 1, length || 1, length + 1]) {
      for (const make of [checked(right), checked(5, right)]) {
        const whole = decode(make, file, { pull });
        expect(whole.error).toBeUndefined();
        expect(whole.bytes.equals(image)).toBe(true);
      }
      const { bytes, error } = decode(checked((right ^ 1) >>> 0), file, { pull });
      expect(error).toMatchObject({ reason: 'damaged', message: 'the CRC of the data is wrong', out: 0 });
      expect(bytes.equals(image)).toBe(true);
    }
    checkPoints(checked(right), file, image, 50_000);
  });
});
