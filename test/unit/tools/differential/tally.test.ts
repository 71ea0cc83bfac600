import { expect, test } from 'vitest';
import { planOf } from '../../../../tools/differential/plan.js';
import { Tally } from '../../../../tools/differential/tally.js';

test('tally: counts servers that crashed separately from killed ones, and not as differences', () => {
  const tally = new Tally();
  const plan = planOf(1, {});
  tally.played(plan, 100);
  tally.ended(plan, { cut: 4, kill: 3, freeze: 2, end: 0 }, 1);
  tally.ended(plan, { cut: 0, kill: 0, freeze: 0, end: 5 }, 1);
  expect(tally.findings).toEqual([]);
  expect(tally.summary().replaceAll('\n', ' ')).toMatch(
    /servers killed 3 times and .*, chunk servers killed 5 times; 2 servers ended unexpectedly; 0 differences/,
  );
});
