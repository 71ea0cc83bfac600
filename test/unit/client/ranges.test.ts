import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RangeLock } from '../../../src/client/range-lock.js';
import { checkRange } from '../../../src/client/ranges.js';

describe('client ranges', () => {
  test('are exact up to the largest size', () => {
    const size = 2n ** 63n - 1n;
    expect(checkRange(size - 1n, 1, size)).toEqual({ start: size - 1n, end: size });
    expect(() => checkRange(size, 1, size)).toThrow('are outside the export');
    expect(() => checkRange(2 ** 53, 1, size)).toThrow('bad offset');
    expect(() => checkRange(0, Number.NaN, size)).toThrow('bad length NaN');
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
