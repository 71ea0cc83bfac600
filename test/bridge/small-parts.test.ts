// Offsets, blocks, commands, operations and signals: the small parts of the data path.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Blocks, LARGEST_BLOCK } from '../../src/bridge/blocks.js';
import {
  COMMAND_SENT,
  COMMAND_WAITING,
  type Command,
  CommandQueue,
  CommandTable,
} from '../../src/bridge/command.js';
import { COUNTER, countLatency, makeCounters } from '../../src/bridge/counters.js';
import { pendingSignals, wantsToStop } from '../../src/bridge/interrupt.js';
import { addHi, addLo, distance, high, join, low } from '../../src/bridge/offsets.js';
import { OPERATION_READ, Operation, OperationTable } from '../../src/bridge/operation.js';
import { Coverage } from '../../src/nbd/coverage.js';
import { until } from '../helpers/until.js';

describe('offsets in two halves', () => {
  test('add and compare as the whole numbers do', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
        fc.oneof(fc.nat(2 ** 32 - 1), fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1)),
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

describe('the table of commands', () => {
  test('a command that is sent again has a fresh cookie, and nothing of its first reply', () => {
    const table = new CommandTable();
    const command = table.take();
    const block = new Blocks(1).take(1);
    const { cookieHi, cookieLo } = command;
    const reply = { covered: 5, coverage: new Coverage(), failure: 5, failureText: 'no', extents: [1, 2] };
    Object.assign(command, {
      state: COMMAND_SENT,
      type: 1,
      flags: 1,
      length: 9,
      offsetLo: 7,
      block,
      ...reply,
    });
    table.renew(command);
    expect(table.find(cookieHi, cookieLo, undefined)).toBeUndefined();
    expect(command).toMatchObject({ covered: 0, coverage: undefined, failure: 0, failureText: '' });
    expect(command).toMatchObject({ state: COMMAND_WAITING, extents: undefined, connection: undefined });
    expect(command).toMatchObject({ cookieLo, type: 1, flags: 1, length: 9, offsetLo: 7, block });
  });

  test('a command that is given back is as new when it is taken again', () => {
    const table = new CommandTable();
    const fresh = { ...table.take() };
    const command = table.take();
    const used = {
      flags: 1,
      covered: 5,
      coverage: new Coverage(),
      failure: 5,
      failureText: 'no',
      extents: [1],
    };
    Object.assign(command, used, { operation: new Operation(), sequence: 4, replayed: true, next: command });
    command.block = new Blocks(1).take(1);
    table.give(command);
    expect(table.take()).toEqual({ ...fresh, cookieLo: command.cookieLo, cookieHi: 2 });
  });

  test('generations begin again after 2^32', () => {
    const table = new CommandTable();
    const command = table.take();
    command.cookieHi = 0xffffffff;
    table.renew(command);
    expect(command.cookieHi).toBe(0);
    command.state = COMMAND_SENT;
    expect(table.find(0, command.cookieLo, undefined)).toBe(command);
  });

  test('only commands that are not given back are in use', () => {
    const table = new CommandTable();
    const [first, second, third] = [table.take(), table.take(), table.take()];
    table.give(second);
    expect(table.inUse()).toEqual([first, third]);
  });

  test('no two commands in use ever share a cookie, and each is found by its own', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 100 }), (steps) => {
        const table = new CommandTable();
        const used: Command[] = [];
        const spent = new Set<string>();
        for (const [take, which] of steps) {
          if (take) {
            const command = table.take();
            command.state = COMMAND_SENT;
            expect(spent.has(`${command.cookieHi}:${command.cookieLo}`)).toBe(false);
            used.push(command);
          } else {
            const [command] = used.splice(which % Math.max(used.length, 1), 1);
            if (command === undefined) continue;
            spent.add(`${command.cookieHi}:${command.cookieLo}`);
            table.give(command);
          }
          for (const one of used) expect(table.find(one.cookieHi, one.cookieLo, undefined)).toBe(one);
        }
        expect(new Set(table.inUse())).toEqual(new Set(used));
      }),
    );
  });
});

test('operations are found while they are under way, whatever the order in which they end', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 60 }), (steps) => {
      const table = new OperationTable();
      const active: Operation[] = [];
      let unique = 0;
      for (const [take, which] of steps) {
        if (take) {
          const operation = table.take();
          Object.assign(operation, { kind: OPERATION_READ, uniqueLo: ++unique, uniqueHi: 9 });
          active.push(operation);
        } else {
          const [operation] = active.splice(which % Math.max(active.length, 1), 1);
          if (operation !== undefined) table.give(operation);
        }
        expect(table.count).toBe(active.length);
        for (const one of active) expect(table.find(9, one.uniqueLo)).toBe(one);
      }
    }),
  );
});

test('an operation that is given back is as new', () => {
  const table = new OperationTable();
  const operation = table.take();
  const block = new Blocks(1).take(1);
  Object.assign(operation, { kind: 1, opcode: 1, uniqueLo: 1, uniqueHi: 1, block, blockAt: 1 });
  Object.assign(operation, { error: 5, answered: true, change: 3, interrupted: true });
  table.give(operation);
  expect(operation).toEqual(new Operation());
  expect(table.take()).toBe(operation);
});

test('what ends twice, or before its end, is a defect', () => {
  const operations = new OperationTable();
  const operation = operations.take();
  operation.pending = 1;
  expect(() => operations.give(operation)).toThrow(/a request ends once, with nothing pending/);
  operation.pending = 0;
  operations.give(operation);
  expect(() => operations.give(operation)).toThrow(/a request ends once/);
  const commands = new CommandTable();
  const command = commands.take();
  commands.give(command);
  expect(() => commands.give(command)).toThrow(/a command ends once/);
  const blocks = new Blocks(1);
  const block = blocks.take(1);
  blocks.release(block);
  expect(() => blocks.release(block)).toThrow(/released as often as it is taken/);
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

test('a latency of more than an hour is one of the longest, not one of the shortest', () => {
  for (const milliseconds of [2 ** 31 / 1000, 2 ** 32 / 1000, (2 ** 32 + 5) / 1000, 2 ** 40]) {
    const counters = makeCounters();
    countLatency(counters, COUNTER.writeLatency, milliseconds);
    expect(counters.indexOf(1)).toBe(COUNTER.writeLatency + 31);
  }
});

test('place i of a histogram counts what took at least 2^(i-1) and less than 2^i microseconds', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 2), (microseconds) => {
      const counters = makeCounters();
      // Half a microsecond keeps off the rounding of milliseconds.
      countLatency(counters, COUNTER.readLatency, (microseconds + 0.5) / 1000);
      const place = counters.indexOf(1) - COUNTER.readLatency;
      expect(microseconds).toBeLessThan(2 ** place);
      expect(microseconds).toBeGreaterThanOrEqual(place === 0 ? 0 : 2 ** (place - 1));
    }),
  );
});

test('numbers and histograms do not share a place', () => {
  const { readLatency, writeLatency, ...single } = COUNTER;
  const places = Object.values(single);
  expect(new Set(places).size).toBe(places.length);
  expect(Math.max(...places)).toBeLessThan(readLatency);
  expect(writeLatency - readLatency).toBe(32);
  expect(makeCounters()).toHaveLength(writeLatency + 32);
});

describe('interrupts', () => {
  test('signals that wait are read from both lines of the status', () => {
    const status =
      'Name:\tdd\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000002\nSigIgn:\tffffffffffffffff\n';
    expect(pendingSignals(status)).toBe(0x102n);
    expect(pendingSignals(`${status}SigBlk:\tfffffffffffbfeff\n`)).toBe(0x100n);
  });

  test('a process that a signal of the ending kind waits for means to stop, for others it does not', async () => {
    const child = spawn('sleep', ['1000']);
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    const stopped = (): boolean => /^State:\s*T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    // A stopped process takes no signals: they wait.
    child.kill('SIGSTOP');
    await until('the process to stop', stopped);
    child.kill('SIGALRM');
    child.kill('SIGUSR1');
    expect(wantsToStop(pid)).toBe(false);
    child.kill('SIGTERM');
    expect(wantsToStop(pid)).toBe(true);
  });

  test('this process is not being ended; of one that cannot be seen nothing is known', () => {
    expect(wantsToStop(process.pid)).toBe(false);
    expect(wantsToStop(2 ** 30)).toBe(undefined);
    expect(wantsToStop(0)).toBe(undefined);
    expect(wantsToStop(-1)).toBe(false);
  });
});
