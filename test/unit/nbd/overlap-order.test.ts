import { describe, expect, it } from 'vitest';
import {
  ACCESS_EXCLUSIVE,
  ACCESS_READ,
  ACCESS_SHARED,
  type OrderedRequest,
  OverlapOrder,
} from '../../../src/nbd/overlap-order.js';

const over = (access: number, rangeStart: bigint | number, rangeEnd: bigint | number): OrderedRequest => ({
  access,
  rangeStart,
  rangeEnd,
});

describe('order of overlapping requests', () => {
  it.each([
    ['a change', ACCESS_EXCLUSIVE, 'a change', ACCESS_EXCLUSIVE, false],
    ['a change', ACCESS_EXCLUSIVE, 'a shared change', ACCESS_SHARED, false],
    ['a change', ACCESS_EXCLUSIVE, 'a READ', ACCESS_READ, false],
    ['a shared change', ACCESS_SHARED, 'a change', ACCESS_EXCLUSIVE, false],
    ['a shared change', ACCESS_SHARED, 'a shared change', ACCESS_SHARED, true],
    ['a shared change', ACCESS_SHARED, 'a READ', ACCESS_READ, false],
    ['a READ', ACCESS_READ, 'a change', ACCESS_EXCLUSIVE, true],
    ['a READ', ACCESS_READ, 'a READ', ACCESS_READ, true],
  ])('with %s (%i) under way, %s (%i) may start: %s', (_first, first, _second, second, mayStart) => {
    const order = new OverlapOrder();
    expect(order.enter(over(first, 0, 10))).toBe(true);
    expect(order.enter(over(second, 9, 12))).toBe(mayStart);
    expect(order.enter(over(second, 12, 13))).toBe(true);
  });

  it('lets a change wait behind an older one that waits, but not a READ', () => {
    const order = new OverlapOrder();
    const [first, second, third] = [
      over(ACCESS_EXCLUSIVE, 0n, 10n),
      over(ACCESS_EXCLUSIVE, 5n, 20n),
      over(ACCESS_SHARED, 15n, 30n),
    ];
    expect([first, second, third].map((one) => order.enter(one))).toEqual([true, false, false]);
    expect(order.enter(over(ACCESS_READ, 15n, 30n))).toBe(true);
    expect(order.waiting).toEqual([second, third]);
    expect(order.leave(first)).toEqual([second]);
    expect(order.leave(second)).toEqual([third]);
    expect(order.leave(third)).toEqual([]);
    expect(order.started).toEqual([]);
  });

  it('starts all that a change has delayed, as far as they allow each other', () => {
    const order = new OverlapOrder();
    const first = over(ACCESS_EXCLUSIVE, 0, 100);
    const others = [
      over(ACCESS_SHARED, 0, 50),
      over(ACCESS_SHARED, 40, 60),
      over(ACCESS_EXCLUSIVE, 50, 55),
      over(ACCESS_READ, 70, 80),
    ];
    for (const one of [first, ...others]) order.enter(one);
    expect(order.leave(first)).toEqual([others[0], others[1], others[3]]);
  });

  it('never ends a change that waits', () => {
    const order = new OverlapOrder();
    const [first, second] = [over(ACCESS_EXCLUSIVE, 0, 1), over(ACCESS_EXCLUSIVE, 0, 1)];
    order.enter(first);
    order.enter(second);
    expect(() => order.leave(second)).toThrow('before its turn');
    expect(order.takeWaiting()).toEqual([second]);
    expect(order.leave(first)).toEqual([]);
  });
});
