// The saved index of restart points.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeIndex, encodeIndex } from '../../../../src/chunks/reader/saved-index.js';

const index = fc
  .array(
    fc.record({
      gap: fc.integer({ min: 1, max: 1000 }),
      in: fc.nat(2 ** 40),
      state: fc.option(fc.uint8Array({ minLength: 1, maxLength: 50 }), { nil: undefined }),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((parts) => {
    let out = 0;
    const points = parts.map((part) => {
      const point = { in: part.in, out, ...(part.state === undefined ? {} : { state: part.state }) };
      out += part.gap;
      return point;
    });
    return { size: out, points };
  });

describe('saved index', () => {
  it('is the same after saving', () => {
    fc.assert(
      fc.property(index, (one) => {
        expect(decodeIndex(encodeIndex(one))).toEqual(one);
      }),
    );
  });

  it('is refused when it is cut or longer', () => {
    fc.assert(
      fc.property(index, fc.nat(), (one, at) => {
        const bytes = encodeIndex(one);
        expect(decodeIndex(bytes.subarray(0, at % bytes.length))).toBeUndefined();
        expect(decodeIndex(Uint8Array.of(...bytes, 0))).toBeUndefined();
      }),
    );
  });

  it('is refused when its points do not rise', () => {
    const points = [
      { in: 0, out: 0 },
      { in: 5, out: 0 },
    ];
    expect(decodeIndex(encodeIndex({ size: 9, points }))).toBeUndefined();
  });
});
