import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RangeLock } from '../../../src/client/range-lock.js';
import { alignDown, alignUp, checkRange, lengthLimit, pieces } from '../../../src/client/ranges.js';
import { payloadLimit } from '../../../src/nbd/export-info.js';

describe('client ranges', () => {
  test('are exact up to the largest size', () => {
    const size = 2n ** 63n - 1n;
    expect(checkRange(size - 1n, 1, size)).toEqual({ start: size - 1n, end: size });
    expect(() => checkRange(size, 1, size)).toThrow('are outside the export');
    expect(() => checkRange(2 ** 53, 1, size)).toThrow('bad offset');
    expect(() => checkRange(0, Number.NaN, size)).toThrow('bad length NaN');
  });

  test('split into parts that cover them once, in order, each within the limit', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 2n ** 62n),
        fc.integer({ min: 0, max: 10_000 }),
        fc.integer({ min: 100, max: 5000 }),
        (start, length, limit) => {
          let at = start;
          for (const piece of pieces({ start, end: start + BigInt(length) }, limit)) {
            expect(piece.offset).toBe(at);
            expect(piece.length).toBeGreaterThan(0);
            expect(piece.length).toBeLessThanOrEqual(limit);
            at += BigInt(piece.length);
          }
          expect(at).toBe(start + BigInt(length));
        },
      ),
    );
  });

  test('align outwards, but never beyond the end', () => {
    expect(alignDown(1023n, 512)).toBe(512n);
    expect(alignUp(513n, 512, 2000n)).toBe(1024n);
    expect(alignUp(1537n, 512, 2000n)).toBe(2000n);
  });

  test('have limits that are multiples of the minimum block size', () => {
    const sizes = { minimum: 65_536, preferred: 65_536, maximum: 0xffff_ffff };
    expect(payloadLimit(sizes)).toBe(33_554_432);
    expect(payloadLimit({ ...sizes, maximum: 100_000 })).toBe(65_536);
    expect(lengthLimit(sizes, false)).toBe(0xffff_0000);
    expect(lengthLimit(sizes, true)).toBe(2 ** 50);
  });
});

describe('RangeLock', () => {
  test('never lets an exclusive change overlap another change', async () => {
    const change = fc.record({
      start: fc.integer({ min: 0, max: 20 }),
      length: fc.integer({ min: 1, max: 10 }),
      exclusive: fc.boolean(),
      turns: fc.integer({ min: 0, max: 5 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 30 }), async (changes) => {
        const lock = new RangeLock();
        const running = new Set<(typeof changes)[number]>();
        const work = changes.map((mine) =>
          lock.run(
            { start: BigInt(mine.start), end: BigInt(mine.start + mine.length) },
            mine.exclusive,
            async () => {
              for (const other of running) {
                const apart =
                  other.start + other.length <= mine.start || mine.start + mine.length <= other.start;
                expect(apart || !(mine.exclusive || other.exclusive)).toBe(true);
              }
              running.add(mine);
              for (let i = 0; i < mine.turns; i++) await Promise.resolve();
              running.delete(mine);
            },
          ),
        );
        await Promise.all(work);
      }),
    );
  });

  test('is free again after a failed change', async () => {
    const lock = new RangeLock();
    const range = { start: 0n, end: 1n };
    await expect(lock.run(range, true, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await lock.run(range, true, async () => 'yes')).toBe('yes');
  });
});
