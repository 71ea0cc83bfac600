// Order among writes to the same blocks.

import { expect, test } from 'vitest';
import { Operation } from '../../src/bridge/operation.js';
import { RangeLocks } from '../../src/bridge/range-locks.js';

test('plain writes never wait for each other', () => {
  const locks = new RangeLocks();
  expect(locks.acquire(new Operation(), 0, 100, false)).toBe(true);
  expect(locks.acquire(new Operation(), 50, 150, false)).toBe(true);
});

test('an exclusive one waits for the writes under way, and later ones wait for it', () => {
  const locks = new RangeLocks();
  const [write, modify, later, elsewhere] = [
    new Operation(),
    new Operation(),
    new Operation(),
    new Operation(),
  ];
  expect(locks.acquire(write, 0, 100, false)).toBe(true);
  expect(locks.acquire(modify, 64, 128, true)).toBe(false);
  expect(locks.acquire(later, 100, 110, false)).toBe(false);
  expect(locks.acquire(elsewhere, 128, 200, false)).toBe(true);
  expect(locks.release(write)).toEqual([modify]);
  expect(locks.release(elsewhere)).toEqual([]);
  expect(locks.release(modify)).toEqual([later]);
  expect(locks.release(later)).toEqual([]);
});

test('who does not overlap passes those that wait; who does stays behind them', () => {
  const locks = new RangeLocks();
  const [first, second, third, fourth] = Array.from({ length: 4 }, () => new Operation());
  locks.acquire(first, 0, 10, true);
  expect(locks.acquire(second, 5, 20, true)).toBe(false);
  expect(locks.acquire(third, 15, 30, true)).toBe(false);
  expect(locks.acquire(fourth, 40, 50, true)).toBe(true);
  expect(locks.release(first)).toEqual([second]);
  expect(locks.release(second)).toEqual([third]);
});

test('beyond 2^53 a neighbour counts as an overlap rather than the other way round', () => {
  const locks = new RangeLocks();
  locks.acquire(new Operation(), 2 ** 60, 2 ** 60 + 512, true);
  expect(locks.acquire(new Operation(), 2 ** 60 + 512, 2 ** 60 + 1024, true)).toBe(false);
});

test('releasing what was never held is harmless', () => {
  expect(new RangeLocks().release(new Operation())).toEqual([]);
});
