import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alignDown, alignUp, intersection, overlaps } from '../../../src/nbd/byte-range.js';

const bytes = fc.bigInt(0n, 2n ** 63n - 1n);
const block = fc.integer({ min: 0, max: 16 }).map((power) => 2 ** power);

describe('byte ranges', () => {
  it('align outwards, but never beyond the end', () => {
    expect(alignDown(1023n, 512)).toBe(512n);
    expect(alignUp(513n, 512, 2000n)).toBe(1024n);
    expect(alignUp(1537n, 512, 2000n)).toBe(2000n);
  });

  it('align to the nearest multiple on each side, exact up to the largest size', () => {
    fc.assert(
      fc.property(bytes, block, (value, minimum) => {
        const [down, up] = [alignDown(value, minimum), alignUp(value, minimum, 2n ** 64n)];
        expect([down % BigInt(minimum), up % BigInt(minimum)]).toEqual([0n, 0n]);
        expect(down <= value && value < down + BigInt(minimum)).toBe(true);
        expect(up >= value && value > up - BigInt(minimum)).toBe(true);
      }),
    );
  });

  it('overlap if and only if their intersection has a byte', () => {
    const range = fc.tuple(fc.bigInt(0n, 20n), fc.bigInt(1n, 10n));
    fc.assert(
      fc.property(range, range, ([aStart, aLength], [bStart, bLength]) => {
        const a = { start: aStart, end: aStart + aLength };
        const b = { start: bStart, end: bStart + bLength };
        const shared = intersection(a, b);
        const inBoth = Array.from({ length: 40 }, (_, i) => BigInt(i)).filter(
          (at) => a.start <= at && at < a.end && b.start <= at && at < b.end,
        );
        expect(overlaps(a.start, a.end, b.start, b.end)).toBe(inBoth.length > 0);
        expect(shared.end > shared.start ? Number(shared.end - shared.start) : 0).toBe(inBoth.length);
        if (inBoth.length > 0) expect(shared.start).toBe(inBoth[0]);
      }),
    );
  });
});
