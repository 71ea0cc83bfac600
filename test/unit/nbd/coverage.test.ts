// The received bytes of a reply, against a model that keeps a flag for each.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Coverage } from '../../../src/nbd/transmission/coverage.js';

test('coverage of a READ: refuses overlapping runs, and takes all others in any order', () => {
  const runs = fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 12 })), { maxLength: 25 });
  fc.assert(
    fc.property(runs, (some) => {
      const coverage = new Coverage();
      const model = new Array(80).fill(false);
      for (const [start, length] of some) {
        const overlaps = model.slice(start, start + length).includes(true);
        expect(coverage.add(start, start + length)).toBe(overlaps ? 'overlaps an earlier chunk' : undefined);
        // A refused run ends the connection, and must not be recorded partly.
        if (!overlaps) model.fill(true, start, start + length);
      }
    }),
    { numRuns: 1000 },
  );
});

test('coverage of a READ: joins neighbours, so that only gaps count against the limit', () => {
  const coverage = new Coverage();
  for (let i = 10_000; i > 0; i--) expect(coverage.add(i, i + 1)).toBeUndefined();
  for (let i = 0; i < 4095; i++) expect(coverage.add(20_000 + 2 * i, 20_001 + 2 * i)).toBeUndefined();
  expect(coverage.add(40_000, 40_001)).toMatch(/more than 4096/);
  expect(coverage.add(20_001, 20_002)).toBeUndefined();
  expect(coverage.add(40_000, 40_001)).toBeUndefined();
});
