// Whether st_blocks is true.

import { describe, expect, test } from 'vitest';
import { Allocation } from '../../../../src/worker/disk/allocation.js';

describe('allocation', () => {
  test('a count is true until a change or until it is old', () => {
    const allocation = new Allocation(1000);
    expect([allocation.isCounted, allocation.isTrue(0)]).toEqual([false, false]);
    allocation.counted(allocation.changes, 500);
    expect([allocation.isCounted, allocation.isTrue(1499), allocation.isTrue(1500)]).toEqual([
      true,
      true,
      false,
    ]);
    allocation.changed();
    expect(allocation.isTrue(600)).toBe(false);
  });

  test('a count does not include a change after its start', () => {
    const allocation = new Allocation(1000);
    const before = allocation.changes;
    allocation.changed();
    allocation.counted(before, 0);
    expect([allocation.includes(before), allocation.includes(allocation.changes)]).toEqual([true, false]);
    expect(allocation.isTrue(1)).toBe(false);
  });

  test('a count of a part has begun, and is not true', () => {
    const allocation = new Allocation(1000);
    allocation.countedPart();
    expect([allocation.isCounted, allocation.includes(allocation.changes)]).toEqual([true, false]);
    allocation.counted(allocation.changes, 0);
    expect(allocation.isTrue(1)).toBe(true);
  });

  test('a count in progress cannot replace one that is too old', () => {
    const allocation = new Allocation(0);
    const before = allocation.changes;
    allocation.expire(0);
    allocation.counted(before, 0);
    expect(allocation.includes(allocation.changes)).toBe(false);
    expect(allocation.isTrue(0)).toBe(false);
  });
});
