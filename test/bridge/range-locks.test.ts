// Order among writes to the same blocks.

import fc from 'fast-check';
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

/** What is right by definition: a list in the order of asking. */
interface Claim {
  readonly operation: Operation;
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
}

const clash = (a: Claim, b: Claim): boolean =>
  (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;

/** Those that may be at work: no earlier claim stands in their way, be it at work or waiting. */
const mayWork = (claims: readonly Claim[]): Operation[] =>
  claims
    .filter((claim, i) => !claims.slice(0, i).some((earlier) => clash(earlier, claim)))
    .map((claim) => claim.operation);

test('agrees with a model for any claims and releases: nobody is early, nobody is forgotten', () => {
  const step = fc.oneof(
    fc.record({
      start: fc.nat(40),
      length: fc.integer({ min: 1, max: 15 }),
      exclusive: fc.boolean(),
    }),
    fc.record({ release: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(0, 2 ** 40), (steps, base) => {
      const locks = new RangeLocks();
      let claims: Claim[] = [];
      const working = new Set<Operation>();
      const end = (operation: Operation): void => {
        const freed = locks.release(operation);
        claims = claims.filter((claim) => claim.operation !== operation);
        working.delete(operation);
        for (const other of freed) {
          expect(working.has(other)).toBe(false);
          working.add(other);
        }
        expect(new Set(mayWork(claims))).toEqual(working);
      };
      for (const one of steps) {
        if ('release' in one) {
          const chosen = [...working][one.release % Math.max(working.size, 1)];
          if (chosen !== undefined) end(chosen);
          continue;
        }
        const start = base + one.start;
        const claim = {
          operation: new Operation(),
          start,
          end: start + one.length,
          exclusive: one.exclusive,
        };
        claims.push(claim);
        const granted = locks.acquire(claim.operation, claim.start, claim.end, claim.exclusive);
        if (granted) working.add(claim.operation);
        expect(granted).toBe(mayWork(claims).includes(claim.operation));
      }
      for (let [next] = working; next !== undefined; [next] = working) end(next);
      expect(claims).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

test('the order of a run of exclusive claims to one block is that of asking', () => {
  const locks = new RangeLocks();
  const all = Array.from({ length: 50 }, () => new Operation());
  const [first, ...others] = all;
  expect(locks.acquire(first, 0, 1, true)).toBe(true);
  for (const other of others) expect(locks.acquire(other, 0, 1, true)).toBe(false);
  const order = [first];
  for (const operation of order) order.push(...locks.release(operation));
  expect(order).toEqual(all);
});
