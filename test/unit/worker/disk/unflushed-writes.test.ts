// Writes that stay in memory until a FLUSH covers them.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { UnflushedWrites } from '../../../../src/worker/disk/unflushed-writes.js';
import { FuseRequest } from '../../../../src/worker/flight/fuse-request.js';
import { COMMAND_UNFLUSHED, NbdCommand } from '../../../../src/worker/flight/nbd-command.js';
import { PooledBuffer } from '../../../../src/worker/memory/buffer-pool.js';

function write(length: number, shared = 1): NbdCommand {
  const command = new NbdCommand(0);
  command.length = length;
  command.buffer = new PooledBuffer(4096);
  command.buffer.references = shared;
  return command;
}

function journal(limit: number): { unflushed: UnflushedWrites; released: NbdCommand[] } {
  const released: NbdCommand[] = [];
  return { unflushed: new UnflushedWrites(limit, (command) => released.push(command)), released };
}

test('a FLUSH forgets what was answered before it was sent, and nothing later', () => {
  const { unflushed: kept, released } = journal(1 << 20);
  const [first, second, third] = [write(1), write(2), write(3)];
  kept.keep(first);
  kept.keep(second);
  const mark = kept.mark;
  kept.keep(third);
  expect(kept.bytes).toBe(3 * 4096);
  kept.forget(mark);
  expect(released).toEqual([first, second]);
  expect(kept.list()).toEqual([third]);
  expect(third.state).toBe(COMMAND_UNFLUSHED);
  kept.forget(mark);
  expect(kept.bytes).toBe(4096);
  kept.forget(kept.mark);
  expect(kept.empty).toBe(true);
  expect(kept.bytes).toBe(0);
});

test('a block that several commands share is counted by their lengths', () => {
  const { unflushed: kept } = journal(1 << 20);
  kept.keep(write(100, 3));
  expect(kept.bytes).toBe(100);
});

test('a command without data counts, too, so that a FLUSH comes after many of them', () => {
  const { unflushed: kept } = journal(1024);
  for (let i = 0; i < 100; i++) kept.keep(new NbdCommand(i));
  expect(kept.list().length).toBeLessThan(10);
  expect(kept.incomplete).toBe(true);
});

test('beyond twice the limit a write is not remembered, and the journal says so', () => {
  const { unflushed: kept, released } = journal(4096);
  for (let i = 0; i < 3; i++) kept.keep(write(10));
  expect(released).toHaveLength(1);
  expect(kept.incomplete).toBe(true);
  expect(kept.bytes).toBe(8192);
});

test('what was forgotten is covered by a FLUSH that was sent later, and by no other', () => {
  const { unflushed: kept } = journal(4096);
  kept.keep(write(10));
  kept.keep(write(10));
  const mark = kept.mark;
  kept.keep(write(10));
  kept.forget(mark);
  expect(kept.empty).toBe(true);
  expect(kept.incomplete).toBe(true);
  kept.forget(kept.mark);
  expect(kept.incomplete).toBe(false);
});

test('a loss is admitted once', () => {
  const { unflushed: kept } = journal(4096);
  for (let i = 0; i < 3; i++) kept.keep(write(10));
  kept.admitLoss();
  expect(kept.incomplete).toBe(false);
});

test('without a limit nothing is remembered, and nothing is promised', () => {
  const { unflushed: kept, released } = journal(0);
  kept.keep(write(10));
  expect(released).toHaveLength(1);
  expect(kept.incomplete).toBe(false);
});

test('the order is kept over thousands of writes and flushes', () => {
  const { unflushed: kept, released } = journal(1 << 30);
  const all = Array.from({ length: 5000 }, (_, i) => write(i + 1));
  all.forEach((command, i) => {
    kept.keep(command);
    if (i % 7 === 0) kept.forget(kept.mark - 3);
  });
  kept.forget(kept.mark);
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
      const { unflushed: kept, released } = journal(LIMIT);
      let model: NbdCommand[] = [];
      const gone: NbdCommand[] = [];
      const flushes: { mark: number; covers: NbdCommand[] }[] = [];
      for (const one of steps) {
        if (one.kind === 'write') {
          // No payload of its own, as WRITE_ZEROES, or a shared one, or one alone.
          const command = write(one.length, one.length % 2 === 0 ? 1 : 3);
          if (one.length === 0) command.buffer = undefined;
          kept.keep(command);
          (kept.list().includes(command) ? model : gone).push(command);
          if (gone.includes(command)) expect(kept.incomplete).toBe(true);
        } else if (one.kind === 'send') flushes.push({ mark: kept.mark, covers: [...model] });
        else {
          const flush = flushes.shift();
          if (flush === undefined) continue;
          kept.forget(flush.mark);
          gone.push(...model.filter((command) => flush.covers.includes(command)));
          model = model.filter((command) => !flush.covers.includes(command));
        }
        expect(kept.list()).toEqual(model);
        expect(released).toEqual(gone);
        expect(kept.bytes).toBe(model.reduce((sum, command) => sum + command.cost, 0));
        expect(kept.bytes).toBeLessThanOrEqual(2 * LIMIT);
        expect(kept.empty).toBe(model.length === 0);
      }
    }),
    { numRuns: 150 },
  );
});

test('what is remembered belongs to no request and no connection', () => {
  const { unflushed: kept } = journal(1 << 20);
  const command = write(10);
  command.request = new FuseRequest();
  kept.keep(command);
  expect(command).toMatchObject({ state: COMMAND_UNFLUSHED, request: undefined, connection: undefined });
});
