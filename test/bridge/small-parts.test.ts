// Offsets, blocks, commands, operations and signals: the small parts of the data path.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Blocks, LARGEST_BLOCK } from '../../src/bridge/blocks.js';
import { COMMAND_SENT, CommandQueue, CommandTable } from '../../src/bridge/command.js';
import { COUNTER, countLatency, makeCounters } from '../../src/bridge/counters.js';
import { pendingSignals, wantsToStop } from '../../src/bridge/interrupt.js';
import { addHi, addLo, distance, high, join, low } from '../../src/bridge/offsets.js';
import { OPERATION_READ, OperationTable } from '../../src/bridge/operation.js';

describe('offsets in two halves', () => {
  test('add and compare as the whole numbers do', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
        fc.integer({ min: 0, max: 2 ** 31 }),
        (offset, count) => {
          const [hi, lo] = [high(offset), low(offset)];
          expect(join(hi, lo)).toBe(offset);
          expect(join(addHi(hi, lo, count), addLo(lo, count))).toBe(offset + BigInt(count));
          expect(distance(addHi(hi, lo, count), addLo(lo, count), hi, lo)).toBe(count);
          expect(distance(hi, lo, addHi(hi, lo, count), addLo(lo, count))).toBe(count === 0 ? 0 : -count);
        },
      ),
    );
  });
});

describe('blocks', () => {
  test('the smallest that holds a payload is taken, and taken again when all have let go of it', () => {
    const blocks = new Blocks(1 << 20);
    const block = blocks.take(4097);
    expect(block.capacity).toBe(8192);
    block.references++;
    blocks.release(block);
    expect(blocks.take(5000)).not.toBe(block);
    blocks.release(block);
    expect(blocks.take(8192)).toBe(block);
  });

  test('so much in use that nothing new should begin is told', () => {
    const blocks = new Blocks(8192);
    const first = blocks.take(1);
    expect(blocks.exhausted).toBe(false);
    blocks.take(1);
    expect(blocks.exhausted).toBe(true);
    blocks.release(first);
    expect(blocks.exhausted).toBe(false);
  });

  test('what no block holds is refused', () => {
    expect(() => new Blocks(1).take(LARGEST_BLOCK + 1)).toThrow(RangeError);
  });
});

describe('commands', () => {
  test('a place that is used again has another cookie, and the old one finds nothing', () => {
    const table = new CommandTable();
    const first = table.take();
    first.state = COMMAND_SENT;
    const { cookieHi, cookieLo } = first;
    expect(table.find(cookieHi, cookieLo, undefined)).toBe(first);
    table.give(first);
    expect(table.find(cookieHi, cookieLo, undefined)).toBeUndefined();
    const second = table.take();
    second.state = COMMAND_SENT;
    expect(second.cookieLo).toBe(cookieLo);
    expect(table.find(cookieHi, cookieLo, undefined)).toBeUndefined();
    expect(table.find(second.cookieHi, cookieLo, undefined)).toBe(second);
    expect(table.find(0, 12345, undefined)).toBeUndefined();
  });

  test('a command that has not been sent cannot be answered', () => {
    const table = new CommandTable();
    const command = table.take();
    expect(table.find(command.cookieHi, command.cookieLo, undefined)).toBeUndefined();
  });

  test('a queue gives back in order', () => {
    const table = new CommandTable();
    const queue = new CommandQueue();
    const all = [table.take(), table.take(), table.take()];
    for (const command of all) queue.push(command);
    expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual([...all, undefined]);
  });
});

test('an operation is found by the number of its request until it is given back', () => {
  const table = new OperationTable();
  const [one, two] = [table.take(), table.take()];
  for (const [i, operation] of [one, two].entries())
    Object.assign(operation, { kind: OPERATION_READ, uniqueLo: i + 7 });
  table.give(one);
  expect(table.find(0, 7)).toBeUndefined();
  expect(table.find(0, 8)).toBe(two);
  expect(table.count).toBe(1);
});

test('latencies are counted by powers of two of microseconds', () => {
  const counters = makeCounters();
  countLatency(counters, COUNTER.readLatency, 0.0004);
  countLatency(counters, COUNTER.readLatency, 0.003);
  countLatency(counters, COUNTER.readLatency, 1e9);
  expect(counters[COUNTER.readLatency]).toBe(1);
  expect(counters[COUNTER.readLatency + 2]).toBe(1);
  expect(counters[COUNTER.readLatency + 31]).toBe(1);
});

describe('interrupts', () => {
  test('signals that wait are read from both lines of the status', () => {
    const status =
      'Name:\tdd\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000002\nSigBlk:\tffffffffffffffff\n';
    expect(pendingSignals(status)).toBe(0x102n);
  });

  test('this process is not being ended; one that is gone is', () => {
    expect(wantsToStop(process.pid)).toBe(false);
    expect(wantsToStop(2 ** 30)).toBe(true);
  });
});
