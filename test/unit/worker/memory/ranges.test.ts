// Ranges of bytes that were not written.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Ranges } from '../../../../src/worker/memory/ranges.js';

test('ranges: adjacent and overlapping ranges come back as one', () => {
  const ranges = new Ranges();
  ranges.add(8192n, 4096);
  ranges.add(0n, 4096);
  ranges.add(4096n, 4096);
  ranges.add(2n ** 62n, 512);
  ranges.add(2n ** 62n + 100n, 100);
  expect(ranges.bytes).toBe(12_288 + 512);
  expect(ranges.texts(16)).toEqual(['offset 0 length 12288', 'offset 4611686018427387904 length 512']);
  expect(ranges.texts(1)).toEqual(['offset 0 length 12288']);
});

test('ranges: an empty range is none', () => {
  expect(new Ranges().bytes).toBe(0);
  expect(new Ranges().texts(16)).toEqual([]);
});

test('ranges: counts each byte once, in any order of ranges and questions', () => {
  const range = fc.record({
    start: fc.integer({ min: 0, max: 200 }),
    length: fc.integer({ min: 1, max: 40 }),
  });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), (all) => {
      const ranges = new Ranges();
      const bytes = new Set<number>();
      for (const { start, length } of all) {
        ranges.add(BigInt(start), length);
        for (let i = 0; i < length; i++) bytes.add(start + i);
        expect(ranges.bytes).toBe(bytes.size);
      }
    }),
  );
});
