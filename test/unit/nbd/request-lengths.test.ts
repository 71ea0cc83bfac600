import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_EOVERFLOW } from '../../../src/nbd/constants.js';
import { payloadLimit } from '../../../src/nbd/export-info.js';
import {
  lengthAfterRefusal,
  longestChange,
  longestStatus,
  payloadAfterRefusal,
} from '../../../src/nbd/request-lengths.js';

const minimum = fc.integer({ min: 0, max: 16 }).map((power) => 2 ** power);

describe('request lengths', () => {
  it('are multiples of every minimum block size', () => {
    const sizes = { minimum: 65_536, preferred: 65_536, maximum: 0xffff_ffff };
    expect(payloadLimit(sizes)).toBe(33_554_432);
    expect(payloadLimit({ ...sizes, maximum: 100_000 })).toBe(65_536);
    expect([longestStatus(false), longestStatus(true)]).toEqual([0xffff_0000, 2 ** 50]);
    expect([longestChange(false), longestChange(true)]).toEqual([2 ** 30, 2 ** 50]);
    for (const extended of [false, true]) {
      expect(longestStatus(extended) % 65_536).toBe(0);
      expect(longestChange(extended) % 65_536).toBe(0);
    }
  });

  it.each([
    ['NBD_EINVAL', NBD_EINVAL],
    ['NBD_EOVERFLOW', NBD_EOVERFLOW],
  ])('without payload: after %s the largest payload is tried, once', (_, error) => {
    expect(lengthAfterRefusal(2 ** 30, error, 65_536)).toBe(65_536);
    expect(lengthAfterRefusal(65_537, error, 65_536)).toBe(65_536);
    expect(lengthAfterRefusal(65_536, error, 65_536)).toBe(0);
    expect(lengthAfterRefusal(100, error, 65_536)).toBe(0);
  });

  it('without payload: another error says nothing about the length', () => {
    for (const error of [0, NBD_EIO, NBD_ENOSPC]) expect(lengthAfterRefusal(2 ** 30, error, 65_536)).toBe(0);
  });

  it('with payload: NBD_EOVERFLOW halves it, in whole blocks, down to a single one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 25 }), minimum, (length, block) => {
        const smaller = payloadAfterRefusal(length, NBD_EOVERFLOW, block);
        expect(smaller % block).toBe(0);
        expect(smaller * 2).toBeLessThanOrEqual(length);
        expect(smaller + block).toBeGreaterThan(length / 2);
        expect(smaller === 0).toBe(length < 2 * block);
      }),
    );
  });

  it('with payload: no error but NBD_EOVERFLOW is about its size', () => {
    for (const error of [0, NBD_EINVAL, NBD_EIO]) expect(payloadAfterRefusal(2 ** 20, error, 1)).toBe(0);
  });
});
