// Offsets, blocks, commands, operations and signals: the small parts of the data path.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Coverage } from '../../../src/nbd/transmission/coverage.js';
import {
  isInForeground,
  PATIENCE,
  patienceAfterInterrupt,
  patienceOf,
  pendingSignals,
  signalled,
} from '../../../src/worker/device/signals.js';
import { FuseRequest, FuseRequestTable, REQUEST_READ } from '../../../src/worker/flight/fuse-request.js';
import {
  COMMAND_TO_ISSUE,
  CommandQueue,
  CommandTable,
  type NbdCommand,
} from '../../../src/worker/flight/nbd-command.js';
import { BufferPool, LARGEST_BUFFER } from '../../../src/worker/memory/buffer-pool.js';
import { addHi, addLo, distance, highHalf, lowHalf, toBigInt } from '../../../src/worker/memory/u64.js';
import { COUNTER, countLatency, makeCounters } from '../../../src/worker/stats/counters.js';
import { until } from '../../support/run/until.js';

describe('u64 in two halves', () => {
  test('adds and compares as whole numbers do', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
        fc.oneof(fc.nat(2 ** 32 - 1), fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1)),
        (offset, count) => {
          const [hi, lo] = [highHalf(offset), lowHalf(offset)];
          expect(toBigInt(hi, lo)).toBe(offset);
          expect(toBigInt(addHi(hi, lo, count), addLo(lo, count))).toBe(offset + BigInt(count));
          expect(distance(addHi(hi, lo, count), addLo(lo, count), hi, lo)).toBe(count);
          expect(distance(hi, lo, addHi(hi, lo, count), addLo(lo, count))).toBe(count === 0 ? 0 : -count);
        },
      ),
    );
  });
});

const CONNECTION = { number: 1 };

function send(command: NbdCommand): void {
  command.giveTo(CONNECTION);
  command.send();
}

describe('buffer pool', () => {
  test('takes the smallest buffer that holds a payload, and reuses it after all references are released', () => {
    const buffers = new BufferPool(1 << 20);
    const buffer = buffers.take(4097);
    expect(buffer.capacity).toBe(8192);
    buffer.retain();
    buffers.release(buffer);
    expect(buffers.take(5000)).not.toBe(buffer);
    buffers.release(buffer);
    expect(buffers.take(8192)).toBe(buffer);
  });

  test('reports when it is too full for a new request', () => {
    const buffers = new BufferPool(8192);
    const first = buffers.take(1);
    expect(buffers.exhausted).toBe(false);
    buffers.take(1);
    expect(buffers.exhausted).toBe(true);
    buffers.release(first);
    expect(buffers.exhausted).toBe(false);
  });

  test('refuses a payload larger than any buffer', () => {
    expect(() => new BufferPool(1).take(LARGEST_BUFFER + 1)).toThrow(RangeError);
  });
});

describe('NBD commands', () => {
  test('a reused slot has another cookie, and the old cookie finds nothing', () => {
    const table = new CommandTable();
    const first = table.take();
    send(first);
    const { cookieHi, cookieLo } = first;
    expect(table.find(cookieHi, cookieLo, CONNECTION)).toBe(first);
    table.release(first);
    expect(table.find(cookieHi, cookieLo, CONNECTION)).toBeUndefined();
    const second = table.take();
    send(second);
    expect(second.cookieLo).toBe(cookieLo);
    expect(table.find(cookieHi, cookieLo, CONNECTION)).toBeUndefined();
    expect(table.find(second.cookieHi, cookieLo, CONNECTION)).toBe(second);
    expect(table.find(0, 12345, CONNECTION)).toBeUndefined();
  });

  test('a command that has not been sent cannot be answered', () => {
    const table = new CommandTable();
    const command = table.take();
    expect(table.find(command.cookieHi, command.cookieLo, CONNECTION)).toBeUndefined();
  });

  test('a queue is first in, first out', () => {
    const table = new CommandTable();
    const queue = new CommandQueue();
    const all = [table.take(), table.take(), table.take()];
    for (const command of all) queue.push(command);
    expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual([...all, undefined]);
  });
});

describe('NBD command table', () => {
  test('a command that is sent again has a fresh cookie, and nothing of its first reply', () => {
    const table = new CommandTable();
    const command = table.take();
    const buffer = new BufferPool(1).take(1);
    const { cookieHi, cookieLo } = command;
    const reply = { covered: 5, coverage: new Coverage(), failure: 5, failureText: 'no', extents: [1, 2] };
    send(command);
    Object.assign(command, {
      type: 1,
      flags: 1,
      length: 9,
      offsetLo: 7,
      buffer,
      ...reply,
    });
    table.renew(command);
    expect(table.find(cookieHi, cookieLo, CONNECTION)).toBeUndefined();
    expect(command).toMatchObject({ covered: 0, coverage: undefined, failure: 0, failureText: '' });
    expect(command).toMatchObject({ state: COMMAND_TO_ISSUE, extents: undefined, connection: undefined });
    expect(command).toMatchObject({ cookieLo, type: 1, flags: 1, length: 9, offsetLo: 7, buffer });
  });

  test('a released command has its initial state when it is taken again', () => {
    const table = new CommandTable();
    const fresh = table.take();
    const command = table.take();
    const used = {
      flags: 1,
      covered: 5,
      coverage: new Coverage(),
      failure: 5,
      failureText: 'no',
      extents: [1],
    };
    command.replay();
    Object.assign(command, used, {
      request: new FuseRequest(),
      sequence: 4,
      next: command,
    });
    command.buffer = new BufferPool(1).take(1);
    table.release(command);
    const again = table.take();
    expect({ ...again }).toEqual({ ...fresh, cookieLo: command.cookieLo, cookieHi: 2 });
    expect([again.state, again.connection, again.replayed]).toEqual([COMMAND_TO_ISSUE, undefined, false]);
  });

  test('generations begin again after 2^32', () => {
    const table = new CommandTable();
    const command = table.take();
    command.cookieHi = 0xffffffff;
    table.renew(command);
    expect(command.cookieHi).toBe(0);
    send(command);
    expect(table.find(0, command.cookieLo, CONNECTION)).toBe(command);
  });

  test('lists as in use only commands that are not released', () => {
    const table = new CommandTable();
    const [first, second, third] = [table.take(), table.take(), table.take()];
    table.release(second);
    expect(table.inUse()).toEqual([first, third]);
  });

  test('no two commands in use ever share a cookie, and each is found by its own', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 100 }), (steps) => {
        const table = new CommandTable();
        const used: NbdCommand[] = [];
        const spent = new Set<string>();
        for (const [take, which] of steps) {
          if (take) {
            const command = table.take();
            send(command);
            expect(spent.has(`${command.cookieHi}:${command.cookieLo}`)).toBe(false);
            used.push(command);
          } else {
            const [command] = used.splice(which % Math.max(used.length, 1), 1);
            if (command === undefined) continue;
            spent.add(`${command.cookieHi}:${command.cookieLo}`);
            table.release(command);
          }
          for (const one of used) expect(table.find(one.cookieHi, one.cookieLo, CONNECTION)).toBe(one);
        }
        expect(new Set(table.inUse())).toEqual(new Set(used));
      }),
    );
  });
});

test('FUSE request table: finds requests while they are in flight, for any order of their ends', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 60 }), (steps) => {
      const table = new FuseRequestTable();
      const active: FuseRequest[] = [];
      let unique = 0;
      for (const [take, which] of steps) {
        if (take) {
          const request = table.take();
          Object.assign(request, { kind: REQUEST_READ, uniqueLo: ++unique, uniqueHi: 9 });
          active.push(request);
        } else {
          const [request] = active.splice(which % Math.max(active.length, 1), 1);
          if (request !== undefined) table.release(request);
        }
        expect(table.count).toBe(active.length);
        for (const one of active) expect(table.find(9, one.uniqueLo)).toBe(one);
      }
    }),
  );
});

test('FUSE request table: a released request has its initial state when it is taken again', () => {
  const table = new FuseRequestTable();
  const request = table.take();
  const buffer = new BufferPool(1).take(1);
  Object.assign(request, { kind: 1, opcode: 1, uniqueLo: 1, uniqueHi: 1, change: 3, interrupted: true });
  request.setPayload(buffer, 1);
  request.fail(5);
  request.markAnswered();
  table.release(request);
  expect(request).toEqual(new FuseRequest());
  const { answered, buffer: noBuffer, bufferAt, error, pending } = request;
  expect([answered, noBuffer, bufferAt, error, pending]).toEqual([false, undefined, 0, 0, 0]);
  expect(table.take()).toBe(request);
});

test('FUSE request table: a request has one reply', () => {
  const request = new FuseRequestTable().take();
  request.markAnswered();
  expect(() => request.markAnswered()).toThrow(/a request is answered once/);
});

test('NBD commands: a split keeps the range, and both parts share the payload', () => {
  const commands = new CommandTable();
  const command = commands.take();
  const buffer = new BufferPool(1).take(4096);
  command.type = 1;
  command.flags = 1;
  command.setPlace(0, 0xffff_ff00, 4096);
  command.setPayload(buffer, 128);
  const rest = commands.split(command, 256);
  expect(command).toMatchObject({ offsetHi: 0, offsetLo: 0xffff_ff00, length: 256, bufferAt: 128 });
  expect(rest).toMatchObject({ type: 1, flags: 1, offsetHi: 1, offsetLo: 0, length: 3840, bufferAt: 384 });
  expect(buffer.references).toBe(3);
  expect(() => commands.split(rest, 3840)).toThrow(/both parts/);
});

test('FUSE request table: ending a request twice, or too early, is a defect', () => {
  const requests = new FuseRequestTable();
  const request = requests.take();
  request.waitForOne();
  expect(() => requests.release(request)).toThrow(/a request ends once, with no command pending/);
  request.endWait();
  requests.release(request);
  expect(() => requests.release(request)).toThrow(/a request ends once/);
  const commands = new CommandTable();
  const command = commands.take();
  commands.release(command);
  expect(() => commands.release(command)).toThrow(/a command ends once/);
  const buffers = new BufferPool(1);
  const buffer = buffers.take(1);
  buffers.release(buffer);
  expect(() => buffers.release(buffer)).toThrow(/released as often as it is taken/);
});

test('FUSE request table: finds a request by its number until it is released', () => {
  const table = new FuseRequestTable();
  const [one, two] = [table.take(), table.take()];
  for (const [i, request] of [one, two].entries())
    Object.assign(request, { kind: REQUEST_READ, uniqueLo: i + 7 });
  table.release(one);
  expect(table.find(0, 7)).toBeUndefined();
  expect(table.find(0, 8)).toBe(two);
  expect(table.count).toBe(1);
});

test('latency histogram: counts by powers of two of microseconds', () => {
  const counters = makeCounters();
  countLatency(counters, COUNTER.readLatency, COUNTER.readSeconds, 0.0004);
  countLatency(counters, COUNTER.readLatency, COUNTER.readSeconds, 0.003);
  countLatency(counters, COUNTER.readLatency, COUNTER.readSeconds, 1e9);
  expect(counters[COUNTER.readLatency]).toBe(1);
  expect(counters[COUNTER.readLatency + 2]).toBe(1);
  expect(counters[COUNTER.readLatency + 31]).toBe(1);
  expect(counters[COUNTER.readSeconds]).toBeCloseTo(1e6);
});

test('latency histogram: a latency of more than an hour counts as one of the longest, not of the shortest', () => {
  for (const milliseconds of [2 ** 31 / 1000, 2 ** 32 / 1000, (2 ** 32 + 5) / 1000, 2 ** 40]) {
    const counters = makeCounters();
    countLatency(counters, COUNTER.writeLatency, COUNTER.writeSeconds, milliseconds);
    expect(counters.indexOf(1)).toBe(COUNTER.writeLatency + 31);
  }
});

test('latency histogram: place i counts latencies of at least 2^(i-1) and less than 2^i microseconds', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 2), (microseconds) => {
      const counters = makeCounters();
      // Half a microsecond avoids rounding errors of milliseconds.
      countLatency(counters, COUNTER.readLatency, COUNTER.readSeconds, (microseconds + 0.5) / 1000);
      const place = counters.indexOf(1) - COUNTER.readLatency;
      expect(microseconds).toBeLessThan(2 ** place);
      expect(microseconds).toBeGreaterThanOrEqual(place === 0 ? 0 : 2 ** (place - 1));
    }),
  );
});

test('counters: numbers and histograms have separate memory', () => {
  const { readLatency, writeLatency, ...single } = COUNTER;
  const places = Object.values(single);
  expect(new Set(places).size).toBe(places.length);
  expect(Math.max(...places)).toBeLessThan(readLatency);
  expect(writeLatency - readLatency).toBe(32);
  expect(makeCounters()).toHaveLength(writeLatency + 32);
});

/** A stopped process, whose signals wait. */
async function stoppedProcess(command: string, ...words: readonly string[]): Promise<ChildProcess> {
  const child = spawn(command, words);
  onTestFinished(() => void child.kill('SIGKILL'));
  if (command === 'perl') await once(child.stdout, 'data');
  else await once(child, 'spawn');
  child.kill('SIGSTOP');
  const stopped = (): boolean => /^State:\s*T/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8'));
  await until('the process to stop', stopped);
  return child;
}

describe('signals', () => {
  test('pending signals come from both lines of the status', () => {
    const status =
      'Name:\tdd\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000002\nSigIgn:\tffffffffffffffff\n';
    expect(pendingSignals(status)).toEqual({ signals: 0x102n, handled: 0n });
    expect(pendingSignals(`${status}SigBlk:\tfffffffffffbfeff\n`).signals).toBe(0x100n);
    expect(pendingSignals(`${status}SigCgt:\t0000000000004003\n`).handled).toBe(0x2n);
  });

  test('a pending signal that ends the process means to stop, other signals do not', async () => {
    const child = await stoppedProcess('sleep', '1000');
    const pid = child.pid ?? 0;
    child.kill('SIGALRM');
    child.kill('SIGUSR1');
    expect(patienceOf(pid)).toBe(PATIENCE.none);
    child.kill('SIGTERM');
    expect(patienceOf(pid)).toBe(PATIENCE.ending);
  });

  test('a pending signal that the process handles may not end it', async () => {
    const handlers = '$|=1; $SIG{$_} = sub {} for qw(INT TERM HUP QUIT); print "x"; sleep 1000';
    const child = await stoppedProcess('perl', '-e', handlers);
    const pid = child.pid ?? 0;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) {
      child.kill(signal);
      expect(patienceOf(pid)).toBe(PATIENCE.unknown);
    }
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(patienceOf(pid)).toBe(undefined);
  });

  test.each([
    ['in the foreground', '7 (a) b (c) S 1 70 70 34816 70 4194304', true],
    ['in the background', '7 (dd) S 1 70 70 34816 71 4194304', false],
    ['without a terminal', '7 (dd) S 1 70 70 0 -1 4194304', false],
    ['of another namespace', '7 (dd) S 0 0 0 0 0 4194304', false],
  ])('a process %s: keys of a terminal send it signals', (_, stat, expected) => {
    expect(isInForeground(stat)).toBe(expected);
  });

  test('a process without a pending signal has none, and an invisible process is unknown', () => {
    expect(patienceAfterInterrupt(process.pid)).toBe(PATIENCE.none);
    expect(patienceAfterInterrupt(2 ** 30)).toBe(PATIENCE.unknown);
    expect(patienceAfterInterrupt(0)).toBe(PATIENCE.unknown);
    expect(patienceAfterInterrupt(-1)).toBe(PATIENCE.none);
  });

  test('a task that cannot be inspected has a signal only if the kernel has reported one', () => {
    const waiting = [
      { pid: 0, interrupted: false },
      { pid: 0, interrupted: true },
      { pid: 5, interrupted: false },
      { pid: 5, interrupted: true },
      { pid: 6, interrupted: true },
      { pid: 7, interrupted: false },
    ];
    const looks = new Map([
      [6, PATIENCE.none],
      [7, PATIENCE.ending],
    ]);
    const found = [...signalled(waiting, (pid) => looks.get(pid))];
    expect(found).toEqual([
      [waiting[1], PATIENCE.unknown],
      [waiting[3], PATIENCE.unknown],
      [waiting[5], PATIENCE.ending],
    ]);
  });
});
