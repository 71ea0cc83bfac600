import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryCache } from '../../../src/chunks/cache/memory.js';
import { compact, UNIT } from '../../../src/chunks/contract/units.js';

const bytes = (length: number): Uint8Array => new Uint8Array(length);

describe('memory cache', () => {
  it('removes the least recently used units when it is full', () => {
    const cache = new MemoryCache(30);
    for (const unit of [1, 2, 3]) cache.put(unit, bytes(10), true);
    cache.get(1);
    cache.put(4, bytes(10), true);
    expect([1, 2, 3, 4].map((unit) => cache.has(unit))).toEqual([true, false, true, true]);
    expect(cache.used).toBe(30);
  });

  it('does not keep a unit that is larger than the limit, nor its former bytes', () => {
    const cache = new MemoryCache(10);
    cache.put(1, bytes(5), true);
    cache.put(1, bytes(11), true);
    expect([cache.get(1), cache.used]).toEqual([undefined, 0]);
  });

  it('removes units that nobody has asked for first, down to their part', () => {
    const cache = new MemoryCache(40);
    cache.put(1, bytes(10), true);
    cache.put(2, bytes(10), true);
    for (const unit of [3, 4, 5, 6]) cache.put(unit, bytes(10), false);
    const kept = (): number[] => [1, 2, 3, 4, 5, 6].filter((unit) => cache.has(unit));
    expect(kept()).toEqual([1, 2, 5, 6]);
    cache.get(5);
    cache.put(3, bytes(10), true);
    expect(kept()).toEqual([2, 3, 5, 6]);
  });

  it('keeps units of zeros in next to no memory', () => {
    const cache = new MemoryCache(UNIT);
    for (let unit = 0; unit < 1000; unit++) cache.put(unit, compact(bytes(UNIT)), false);
    expect(cache.has(0)).toBe(true);
    expect(cache.get(999)?.length).toBe(UNIT);
    expect(cache.used).toBeLessThanOrEqual(UNIT);
  });

  it('agrees with a simple list, whatever the calls', () => {
    const order = fc.record({
      kind: fc.constantFrom('put', 'get', 'drop'),
      unit: fc.nat(12),
      size: fc.nat(12),
    });
    fc.assert(
      fc.property(fc.array(order, { maxLength: 80 }), (orders) => {
        const cache = new MemoryCache(30);
        let list: { unit: number; size: number }[] = [];
        const sum = (): number => list.reduce((all, { size }) => all + size, 0);
        for (const { kind, unit, size } of orders) {
          const found = list.find((one) => one.unit === unit);
          if (kind === 'get') {
            expect(cache.get(unit)?.length).toBe(found?.size);
            if (found !== undefined) list = [...list.filter((one) => one !== found), found];
          } else if (kind === 'drop') {
            cache.drop(unit, size);
            list = list.filter((one) => one.unit < unit || one.unit >= unit + size);
          } else {
            cache.put(unit, bytes(size), true);
            list = list.filter((one) => one !== found);
            list.push({ unit, size });
            while (sum() > 30) list.shift();
          }
          expect(cache.used).toBe(sum());
        }
      }),
    );
  });
});
