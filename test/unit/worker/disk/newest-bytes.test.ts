// Which bytes of overlapping writes a replay sends.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { newestBytes } from '../../../../src/worker/disk/newest-bytes.js';

const range = (start: number, end: number) => ({ start: BigInt(start), end: BigInt(end) });
const part = (index: number, start: number, end: number) => ({ index, ...range(start, end) });

test('newest bytes: a later range takes its bytes from all earlier ones', () => {
  expect(newestBytes([range(0, 10), range(2, 4), range(8, 12)])).toEqual([
    part(0, 0, 2),
    part(0, 4, 8),
    part(1, 2, 4),
    part(2, 8, 12),
  ]);
  expect(newestBytes([range(2, 4), range(0, 10)])).toEqual([part(1, 0, 10)]);
  expect(newestBytes([range(0, 4), range(0, 4), range(4, 8)])).toEqual([part(1, 0, 4), part(2, 4, 8)]);
  expect(newestBytes([])).toEqual([]);
});

test('newest bytes: random ranges give each byte its last writer, once', () => {
  const some = fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 20 }));
  fc.assert(
    fc.property(fc.array(some, { maxLength: 30 }), (pairs) => {
      const ranges = pairs.map(([start, length]) => range(start, start + length));
      const expected = Array.from({ length: 64 }, (_, byte) =>
        ranges.findLastIndex(({ start, end }) => start <= byte && byte < end),
      );
      const found = Array.from({ length: 64 }, () => -1);
      const parts = newestBytes(ranges);
      for (const { index, start, end } of parts)
        for (let byte = Number(start); byte < end; byte++) {
          expect(found[byte]).toBe(-1);
          found[byte] = index;
        }
      expect(found).toEqual(expected);
      expect(parts).toEqual([...parts].sort((a, b) => a.index - b.index || Number(a.start - b.start)));
    }),
  );
});

test('newest bytes: many ranges in one large one are cut without a quadratic search', () => {
  const count = 200_000;
  const small = Array.from({ length: count }, (_, i) =>
    range(((i * 7919) % count) * 8, ((i * 7919) % count) * 8 + 4),
  );
  const parts = newestBytes([range(0, count * 8), ...small]);
  expect(parts).toHaveLength(2 * count);
});
