import { expect, it } from 'vitest';
import { threadCount } from '../../../../src/session/backend/threads.js';

it.each([
  [1, 1],
  [2, 1],
  [3, 2],
  [4, 2],
  [6, 3],
  [8, 4],
  [128, 4],
])('thread count: %i processors give %i threads', (processors, threads) => {
  expect(threadCount(undefined, processors)).toBe(threads);
});

it('thread count: --threads wins', () => {
  expect(threadCount(6, 2)).toBe(6);
  expect(threadCount(1, 64)).toBe(1);
});
