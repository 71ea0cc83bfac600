import { expect, test } from 'vitest';
import { RecentOpens } from '../../../../src/worker/fuse/recent-opens.js';

test('recent opens: each OPEN allows its thread one truncation of its node', () => {
  const opens = new RecentOpens();
  opens.opened(2, 100);
  opens.opened(2, 101);
  opens.opened(3, 100);
  expect(opens.truncates(2, 102)).toBe(false);
  expect(opens.truncates(2, 100)).toBe(true);
  expect(opens.truncates(2, 100)).toBe(false);
  expect(opens.truncates(2, 101)).toBe(true);
  expect(opens.truncates(3, 100)).toBe(true);
});

test('recent opens: threads of another PID namespace share one number and are counted', () => {
  const opens = new RecentOpens();
  for (let i = 0; i < 24; i++) opens.opened(2, 0);
  for (let i = 0; i < 24; i++) expect(opens.truncates(2, 0)).toBe(true);
  expect(opens.truncates(2, 0)).toBe(false);
});

test('recent opens: a closed handle allows no truncation', () => {
  const opens = new RecentOpens();
  const [first, second] = [opens.opened(2, 7), opens.opened(2, 7)];
  expect([first > 0, second > first]).toEqual([true, true]);
  opens.released(second);
  opens.released(999);
  expect(opens.truncates(2, 7)).toBe(true);
  opens.released(first);
  expect(opens.truncates(2, 7)).toBe(false);
});
