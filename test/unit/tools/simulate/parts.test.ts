import { describe, expect, it } from 'vitest';
import { mix, Random } from '../../../../tools/simulate/random.js';
import { minimise } from '../../../../tools/simulate/shrink.js';
import { bytesOf, contentsOf, MISPLACED, TORN, UNIT } from '../../../../tools/simulate/units.js';

describe('simulator: random numbers', () => {
  it('are the same for the same seed, and others for another', () => {
    const take = (seed: number): number[] => {
      const random = new Random(seed);
      return Array.from({ length: 50 }, () => random.below(1000));
    };
    expect(take(7)).toEqual(take(7));
    expect(take(7)).not.toEqual(take(8));
    expect(take(7).every((one) => one >= 0 && one < 1000 && Number.isInteger(one))).toBe(true);
  });

  it('differ with mixed-in numbers', () => {
    const all = new Set(Array.from({ length: 1000 }, (_, i) => mix(i, 1)));
    expect(all.size).toBe(1000);
  });
});

describe('simulator: units', () => {
  const contents = (bytes: Uint8Array, first: number): number[] => {
    const found: number[] = [];
    contentsOf(bytes, first, (_, content) => found.push(content));
    return found;
  };

  it('show their write', () => {
    const bytes = bytesOf(5, 3, (unit) => (unit === 6 ? 0 : unit * 10)).slice();
    expect(contents(bytes, 5)).toEqual([50, 0, 70]);
  });

  it('reveal content that belongs elsewhere, or is mixed', () => {
    const bytes = bytesOf(5, 2, () => 9).slice();
    expect(contents(bytes, 6)).toEqual([MISPLACED, MISPLACED]);
    bytes[UNIT + 100] ^= 1;
    expect(contents(bytes, 5)).toEqual([9, TORN]);
  });
});

describe('simulator: shrinking', () => {
  const items = Array.from({ length: 100 }, (_, i) => i);

  it('leaves the needed steps, in order', () => {
    const needed = [3, 41, 42, 77];
    const fails = (some: readonly number[]): boolean => needed.every((one) => some.includes(one));
    expect(minimise(items, fails, () => false)).toEqual(needed);
  });

  it('returns the failing list when no time is left', () => {
    let left = 5;
    const short = minimise(
      items,
      (some) => some.includes(20),
      () => --left < 0,
    );
    expect(short).toContain(20);
    expect(short.length).toBeLessThan(100);
  });
});
