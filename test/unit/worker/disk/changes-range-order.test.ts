// The order of overlapping changes: first come, first served.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EIO } from '../../../../src/constants/errno.js';
import { RangeOrder, setRange } from '../../../../src/worker/disk/changes.js';
import { FuseRequest, REQUEST_READ, REQUEST_WRITE } from '../../../../src/worker/flight/fuse-request.js';

function request(kind: number, start: number, end: number): FuseRequest {
  const one = new FuseRequest();
  one.kind = kind;
  setRange(one, start, end, 1);
  return one;
}

const change = (start: number, end: number): FuseRequest => request(REQUEST_WRITE, start, end);
const read = (start: number, end: number): FuseRequest => request(REQUEST_READ, start, end);

function createOrder(): { order: RangeOrder } {
  return { order: new RangeOrder() };
}

test('range order: a change waits for the changes that it overlaps, and for no others', () => {
  const { order } = createOrder();
  const [first, second, third, elsewhere] = [
    change(0, 100),
    change(64, 128),
    change(100, 110),
    change(128, 200),
  ];
  expect(order.enter(first)).toBe(true);
  expect(order.enter(second)).toBe(false);
  expect(order.enter(third)).toBe(false);
  expect(order.enter(elsewhere)).toBe(true);
  expect(order.leave(first)).toEqual([second]);
  expect(order.leave(elsewhere)).toEqual([]);
  expect(order.leave(second)).toEqual([third]);
  expect(order.leave(third)).toEqual([]);
  expect(order.isChanging).toBe(false);
});

test('range order: a read waits for overlapping changes under way, not for waiting ones', () => {
  const { order } = createOrder();
  const [first, second] = [change(0, 10), change(5, 20)];
  order.enter(first);
  order.enter(second);
  expect(order.enterRead(read(10, 20))).toBe(true);
  const late = read(0, 20);
  expect(order.enterRead(late)).toBe(false);
  expect(order.leave(first)).toEqual([second]);
  expect(order.leave(second)).toEqual([late]);
  expect(order.leave(late)).toEqual([]);
});

test('range order: beyond 2^53 a neighbour may count as an overlap, never an overlap as a neighbour', () => {
  const { order } = createOrder();
  order.enter(change(2 ** 60, 2 ** 60 + 512));
  expect(order.enter(change(2 ** 60 + 512, 2 ** 60 + 1024))).toBe(false);
});

test('range order: rounds ranges out to blocks', () => {
  const one = new FuseRequest();
  setRange(one, 700, 1100, 512);
  expect([one.rangeStart, one.rangeEnd]).toEqual([512, 1536]);
});

test('range order: leaving twice, or before the turn, is a defect', () => {
  const { order } = createOrder();
  const [first, second] = [change(0, 10), change(0, 10)];
  order.enter(first);
  order.enter(second);
  expect(() => order.leave(second)).toThrow(/does not leave the range order before its turn/);
  expect(() => order.enter(first)).toThrow(/enters the range order once/);
  expect(order.leave(first)).toEqual([second]);
  expect(order.leave(first)).toEqual([]);
});

test('range order: reports the first and the last change to the listener', () => {
  const { order } = createOrder();
  const heard: boolean[] = [];
  order.announce = (isChanging) => heard.push(isChanging);
  const [first, second] = [change(0, 10), change(10, 20)];
  for (const one of [first, second]) order.enter(one);
  for (const one of [first, second]) order.leave(one);
  expect(heard).toEqual([true, false]);
});

test('range order: at the end all waiting requests continue', () => {
  const { order } = createOrder();
  const [first, second] = [change(0, 10), change(0, 10)];
  order.enter(first);
  order.enter(second);
  expect(order.end(EIO)).toEqual([second]);
  expect(order.leave(second)).toEqual([]);
});

test('range order: no two overlapping changes are ever under way, and all get their turn', () => {
  const step = fc.record({
    start: fc.nat(30),
    length: fc.integer({ min: 1, max: 10 }),
    isRead: fc.boolean(),
    end: fc.nat(5),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { order } = createOrder();
      const under: FuseRequest[] = [];
      const arrived: FuseRequest[] = [];
      const begun: FuseRequest[] = [];
      const begin = (one: FuseRequest): void => {
        const others = under.filter(
          (other) => one.rangeStart < other.rangeEnd && other.rangeStart < one.rangeEnd,
        );
        expect(others.filter(({ kind }) => kind === REQUEST_WRITE)).toEqual([]);
        begun.push(one);
        if (one.kind === REQUEST_WRITE) under.push(one);
      };
      const end = (at: number): void => {
        const [one] = under.splice(at, 1);
        for (const next of order.leave(one)) begin(next);
      };
      for (const { start, length, isRead, end: at } of steps) {
        const one = request(isRead ? REQUEST_READ : REQUEST_WRITE, start, start + length);
        arrived.push(one);
        if (isRead ? order.enterRead(one) : order.enter(one)) begin(one);
        if (at < under.length) end(at);
      }
      while (under.length > 0) end(0);
      expect(new Set(begun)).toEqual(new Set(arrived));
      expect(order.isChanging).toBe(false);
      const changes = begun.filter(({ kind }) => kind === REQUEST_WRITE);
      for (const [i, a] of changes.entries())
        for (const b of changes.slice(i + 1))
          if (a.rangeStart < b.rangeEnd && b.rangeStart < a.rangeEnd) expect(a.change).toBeLessThan(b.change);
    }),
  );
});
