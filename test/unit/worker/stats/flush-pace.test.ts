import { expect, test } from 'vitest';
import { FlushPace } from '../../../../src/worker/stats/flush-pace.js';

const MIB = 1024 * 1024;

/** The fewest MiB with which a FLUSH begins at `now`, which then takes `took` milliseconds. */
function flushAt(pace: FlushPace, now: number, took: number): number {
  for (let mib = 1; mib <= 128; mib++) {
    if (!pace.begins(mib * MIB, now)) continue;
    pace.ended(now + took, true);
    return mib;
  }
  return Number.POSITIVE_INFINITY;
}

test('flush pace: FLUSHes without cost follow after 8 MiB each', () => {
  const pace = new FlushPace(64 * MIB);
  expect([0, 10, 20, 30].map((now) => flushAt(pace, now, 0))).toEqual([8, 8, 8, 8]);
});

test('flush pace: slow FLUSHes follow less often, up to the limit, and more often again when they are quick', () => {
  const pace = new FlushPace(64 * MIB);
  expect([0, 20, 40, 60, 80, 100].map((now) => flushAt(pace, now, 10))).toEqual([8, 8, 16, 32, 64, 64]);
  expect([1000, 2000, 3000, 4000, 5000].map((now) => flushAt(pace, now, 1))).toEqual([64, 32, 16, 8, 8]);
});

test('flush pace: a second FLUSH does not begin during one', () => {
  const pace = new FlushPace(64 * MIB);
  expect(pace.begins(8 * MIB, 0)).toBe(true);
  expect(pace.begins(64 * MIB, 1)).toBe(false);
  pace.ended(2, true);
  expect(pace.begins(8 * MIB, 3)).toBe(true);
});

test('flush pace: no FLUSH is due without unflushed writes, and none is later than the limit', () => {
  expect(flushAt(new FlushPace(0), 0, 0)).toBe(Number.POSITIVE_INFINITY);
  expect(flushAt(new FlushPace(2 * MIB), 0, 0)).toBe(2);
});

test('flush pace: a server that fails FLUSHes gets one a second at most', () => {
  const pace = new FlushPace(64 * MIB);
  expect(pace.begins(8 * MIB, 0)).toBe(true);
  pace.ended(10, false);
  expect(pace.begins(128 * MIB, 1009)).toBe(false);
  expect(pace.begins(128 * MIB, 1010)).toBe(true);
});
