// Writes that stay in memory until a FLUSH covers them.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NBD_CMD_WRITE } from '../../../../src/nbd/constants.js';
import { UnflushedWrites } from '../../../../src/worker/disk/changes.js';
import { FuseRequest } from '../../../../src/worker/flight/fuse-request.js';
import { COMMAND_UNFLUSHED, CommandTable, NbdCommand } from '../../../../src/worker/flight/nbd-command.js';
import { BufferPool, HEADROOM, PooledBuffer } from '../../../../src/worker/memory/buffer-pool.js';

/** A command that was sent. */
function sent(index: number): NbdCommand {
  const command = new NbdCommand(index);
  command.begin();
  command.giveTo({ number: 1 });
  command.send();
  return command;
}

function write(length: number, shared = 1): NbdCommand {
  const command = sent(0);
  command.length = length;
  command.buffer = new PooledBuffer(4096);
  command.buffer.take();
  for (let i = 1; i < shared; i++) command.buffer.retain();
  return command;
}

function createUnflushed(limit: number): { unflushed: UnflushedWrites; released: NbdCommand[] } {
  const released: NbdCommand[] = [];
  const owner = {
    retire: (command: NbdCommand) => released.push(command),
    releaseBuffer: (command: NbdCommand) => {
      command.buffer = undefined;
    },
  };
  return { unflushed: new UnflushedWrites(limit, owner), released };
}

test('unflushed writes: a FLUSH covers exactly the writes that were answered before it was sent', () => {
  const { unflushed, released } = createUnflushed(1 << 20);
  const [first, second, third] = [write(1), write(2), write(3)];
  unflushed.keep(first);
  unflushed.keep(second);
  const mark = unflushed.mark;
  unflushed.keep(third);
  expect(unflushed.bytes).toBe(3 * 4096);
  unflushed.forget(mark);
  expect(released).toEqual([first, second]);
  expect(unflushed.list()).toEqual([third]);
  expect(third.state).toBe(COMMAND_UNFLUSHED);
  unflushed.forget(mark);
  expect(unflushed.bytes).toBe(4096);
  unflushed.forget(unflushed.mark);
  expect(unflushed.empty).toBe(true);
  expect(unflushed.bytes).toBe(0);
});

test('unflushed writes: a buffer that several commands share counts with their lengths', () => {
  const { unflushed } = createUnflushed(1 << 20);
  unflushed.keep(write(100, 3));
  expect(unflushed.bytes).toBe(100);
});

test('unflushed writes: a command without data counts too, so that many of them cause a FLUSH', () => {
  const { unflushed } = createUnflushed(1024);
  for (let i = 0; i < 100; i++) {
    unflushed.keep(sent(i));
  }
  expect(unflushed.list().length).toBeLessThan(10);
  expect(unflushed.incomplete).toBe(true);
});

test('unflushed writes: beyond twice the limit a write stays without its data, and the list is incomplete', () => {
  const { unflushed, released } = createUnflushed(4096);
  const third = write(10);
  for (const one of [write(10), write(10), third]) unflushed.keep(one);
  expect(third.buffer).toBeUndefined();
  expect(unflushed.list()).toHaveLength(3);
  expect(released).toEqual([]);
  expect(unflushed.incomplete).toBe(true);
  expect(unflushed.bytes).toBe(8192 + 512);
});

test('unflushed writes: beyond three times the limit all are dropped, so that no replay shows older bytes', () => {
  const { unflushed, released } = createUnflushed(4096);
  for (let i = 0; i < 11; i++) unflushed.keep(write(10));
  expect(unflushed.empty).toBe(true);
  expect(unflushed.bytes).toBe(0);
  expect(released).toHaveLength(11);
  expect(unflushed.incomplete).toBe(true);
  unflushed.keep(write(10));
  unflushed.forget(unflushed.mark);
  expect(unflushed.incomplete).toBe(false);
});

describe('unflushed writes: keepNewest', () => {
  /** Writes that begin at these offsets, each with a byte of its own, kept in this order. */
  function keepAll(ranges: readonly (readonly [start: number, length: number])[], dropped = -1) {
    const commands = new CommandTable();
    const buffers = new BufferPool(1 << 20);
    const unflushed = new UnflushedWrites(1 << 20, {
      retire: (command) => {
        if (command.buffer !== undefined) buffers.release(command.buffer);
        commands.release(command);
      },
      releaseBuffer: () => undefined,
    });
    ranges.forEach(([start, length], i) => {
      const command = commands.take();
      command.type = NBD_CMD_WRITE;
      command.setPlace(1, start, length);
      if (i !== dropped) {
        const buffer = buffers.take(length);
        buffer.bytes.fill(i + 1, HEADROOM, HEADROOM + length);
        command.setPayload(buffer, HEADROOM);
        buffers.release(buffer);
      }
      unflushed.keep(command);
    });
    return { unflushed, commands, buffers };
  }

  /** The bytes that a replay of the list would write, by offset; a byte that two commands write throws. */
  function written(unflushed: UnflushedWrites): Map<number, number> {
    const bytes = new Map<number, number>();
    for (const { offsetLo, length, buffer, bufferAt } of unflushed.list())
      for (let i = 0; i < length; i++) {
        if (bytes.has(offsetLo + i)) throw new Error(`byte ${offsetLo + i} is written twice`);
        bytes.set(offsetLo + i, buffer?.bytes[bufferAt + i] ?? -1);
      }
    return bytes;
  }

  test('leaves each byte to its last write', () => {
    const { unflushed, commands, buffers } = keepAll([
      [0, 10],
      [4, 2],
      [8, 4],
      [20, 3],
    ]);
    unflushed.keepNewest(commands);
    expect([...written(unflushed)].sort(([a], [b]) => a - b).map(([, value]) => value)).toEqual([
      1, 1, 1, 1, 2, 2, 1, 1, 3, 3, 3, 3, 4, 4, 4,
    ]);
    unflushed.forget(unflushed.mark);
    expect([unflushed.bytes, buffers.inUse, commands.inUse().length]).toEqual([0, 0, 0]);
  });

  test('removes a write whose data were dropped, and the older bytes below it', () => {
    const { unflushed, commands } = keepAll(
      [
        [0, 8],
        [4, 8],
      ],
      1,
    );
    unflushed.keepNewest(commands);
    expect([...written(unflushed)]).toEqual([0, 1, 2, 3].map((at) => [at, 1]));
  });

  test('numbers the parts anew, so that a FLUSH covers none that was not sent', () => {
    const { unflushed, commands } = keepAll([
      [0, 10],
      [4, 2],
    ]);
    unflushed.keepNewest(commands);
    const [first, second, third] = unflushed.list();
    expect([second.sequence, third.sequence]).toEqual([first.sequence + 1, first.sequence + 2]);
    unflushed.forget(first.sequence);
    expect(unflushed.list()).toEqual([second, third]);
  });

  test('agrees with an array of bytes for any writes', () => {
    const range = fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 30 }));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 20 }), fc.nat(20), (ranges, dropped) => {
        const { unflushed, commands, buffers } = keepAll(ranges, dropped);
        const expected = new Map<number, number>();
        ranges.forEach(([start, length], i) => {
          for (let at = start; at < start + length; at++) expected.set(at, i === dropped ? -1 : i + 1);
        });
        for (const [at, value] of expected) if (value < 0) expected.delete(at);
        unflushed.keepNewest(commands);
        const sorted = (bytes: Map<number, number>) => [...bytes].sort(([a], [b]) => a - b);
        expect(sorted(written(unflushed))).toEqual(sorted(expected));
        unflushed.forget(unflushed.mark);
        expect([unflushed.bytes, buffers.inUse, commands.inUse().length]).toEqual([0, 0, 0]);
      }),
    );
  });
});

test('unflushed writes: only a FLUSH that is sent after a dropped write covers it', () => {
  const { unflushed } = createUnflushed(4096);
  unflushed.keep(write(10));
  unflushed.keep(write(10));
  const mark = unflushed.mark;
  unflushed.keep(write(10));
  unflushed.forget(mark);
  expect(unflushed.list()).toHaveLength(1);
  expect(unflushed.incomplete).toBe(true);
  unflushed.forget(unflushed.mark);
  expect(unflushed.empty).toBe(true);
  expect(unflushed.incomplete).toBe(false);
});

test('unflushed writes: report a loss once', () => {
  const { unflushed } = createUnflushed(4096);
  for (let i = 0; i < 3; i++) unflushed.keep(write(10));
  unflushed.admitLoss();
  expect(unflushed.incomplete).toBe(false);
});

test('unflushed writes: with limit 0 nothing stays in memory, and nothing is promised', () => {
  const { unflushed, released } = createUnflushed(0);
  unflushed.keep(write(10));
  expect(released).toHaveLength(1);
  expect(unflushed.incomplete).toBe(false);
});

test('unflushed writes: keep their order over thousands of writes and flushes', () => {
  const { unflushed, released } = createUnflushed(1 << 30);
  const all = Array.from({ length: 5000 }, (_, i) => write(i + 1));
  all.forEach((command, i) => {
    unflushed.keep(command);
    if (i % 7 === 0) unflushed.forget(unflushed.mark - 3);
  });
  unflushed.forget(unflushed.mark);
  expect(released).toEqual(all);
});

test('unflushed writes: agrees with a list for any writes and flushes, and never exceeds twice its limit', () => {
  const LIMIT = 10 * 4096;
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        length: fc.integer({ min: 0, max: 4096 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('send' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('answer' as const) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const { unflushed, released } = createUnflushed(LIMIT);
      let model: NbdCommand[] = [];
      const gone: NbdCommand[] = [];
      const flushes: { mark: number; covers: NbdCommand[] }[] = [];
      for (const one of steps) {
        if (one.kind === 'write') {
          // No payload, as for WRITE_ZEROES, a shared one, or one with a single user.
          const command = write(one.length, one.length % 2 === 0 ? 1 : 3);
          if (one.length === 0) command.buffer = undefined;
          unflushed.keep(command);
          (unflushed.list().includes(command) ? model : gone).push(command);
          if (gone.includes(command)) expect(unflushed.incomplete).toBe(true);
        } else if (one.kind === 'send') flushes.push({ mark: unflushed.mark, covers: [...model] });
        else {
          const flush = flushes.shift();
          if (flush === undefined) continue;
          unflushed.forget(flush.mark);
          gone.push(...model.filter((command) => flush.covers.includes(command)));
          model = model.filter((command) => !flush.covers.includes(command));
        }
        expect(unflushed.list()).toEqual(model);
        expect(released).toEqual(gone);
        expect(unflushed.bytes).toBe(model.reduce((sum, command) => sum + command.cost, 0));
        expect(unflushed.bytes).toBeLessThanOrEqual(2 * LIMIT);
        expect(unflushed.empty).toBe(model.length === 0);
      }
    }),
    { numRuns: 150 },
  );
});

test('unflushed writes: belong to no request and no connection', () => {
  const { unflushed } = createUnflushed(1 << 20);
  const command = write(10);
  command.request = new FuseRequest();
  unflushed.keep(command);
  expect(command).toMatchObject({ state: COMMAND_UNFLUSHED, request: undefined, connection: undefined });
});
