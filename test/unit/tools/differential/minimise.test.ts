import fc from 'fast-check';
import { expect, it } from 'vitest';
import { numbersOf, parsePlaces, textOfPlaces } from '../../../../tools/differential/kept.js';
import { minimise } from '../../../../tools/differential/minimise.js';

const never = (): boolean => false;

it('minimiser: leaves exactly the needed items, in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 300 }),
      fc.array(fc.nat(), { maxLength: 4 }),
      async (n, some) => {
        const needed = [...new Set(some.map((one) => one % n))].sort((a, b) => a - b);
        const items = [...Array(n).keys()];
        const fails = async (list: readonly number[]) => needed.every((one) => list.includes(one));
        // One item remains of a list that always fails: an empty list is not a case.
        const expected = needed.length === 0 ? [0] : needed;
        expect(await minimise(items, fails, never)).toEqual(expected);
      },
    ),
  );
});

it('minimiser: ends with a list of which every item is needed, for any reason of the failure', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 60 }), fc.integer({ min: 2, max: 7 }), async (n, unit) => {
      const isBad = (list: readonly number[]): boolean =>
        list.reduce((sum, one) => sum + one, 0) >= n &&
        list.filter((one) => one % unit === 0).length % 2 === 1;
      const items = [...Array(n + 1).keys()];
      fc.pre(isBad(items));
      const left = await minimise(items, async (list) => isBad(list), never);
      expect(isBad(left)).toBe(true);
      for (const item of left) {
        const fewer = left.filter((other) => other !== item);
        if (fewer.length > 0) expect(isBad(fewer)).toBe(false);
      }
    }),
  );
});

it('minimiser: finds one item of three thousand in some dozens of tries', async () => {
  let trials = 0;
  const fails = async (list: readonly number[]): Promise<boolean> => {
    trials++;
    return list.includes(1234) && list.includes(7);
  };
  expect(await minimise([...Array(3000).keys()], fails, never)).toEqual([7, 1234]);
  expect(trials).toBeLessThan(60);
});

it('minimiser: returns the failing list when its time is over', async () => {
  let trials = 0;
  const fails = async (list: readonly number[]): Promise<boolean> => {
    trials++;
    return list.includes(70);
  };
  const left = await minimise([...Array(100).keys()], fails, () => trials >= 3);
  expect(left).toContain(70);
  expect(left.length).toBeLessThan(100);
  expect(trials).toBe(3);
});

it('minimiser: names operations by actor and number', () => {
  const places = parsePlaces('0:3,2:0,0:510');
  expect(textOfPlaces(places)).toBe('0:3,2:0,0:510');
  expect(numbersOf(places, 0, 0, 500)).toEqual([3]);
  expect(numbersOf(places, 0, 500, 500)).toEqual([510]);
  expect(numbersOf(places, 1, 0, 500)).toEqual([]);
  expect(() => parsePlaces('3')).toThrow('--keep takes ACTOR:NUMBER');
});
