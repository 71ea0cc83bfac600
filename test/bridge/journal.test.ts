// What is remembered until a FLUSH covers it.

import { expect, test } from 'vitest';
import { Block } from '../../src/bridge/blocks.js';
import { COMMAND_KEPT, Command } from '../../src/bridge/command.js';
import { Journal } from '../../src/bridge/journal.js';

function write(length: number, shared = 1): Command {
  const command = new Command(0);
  command.length = length;
  command.block = new Block(4096);
  command.block.references = shared;
  return command;
}

function journal(limit: number): { journal: Journal; released: Command[] } {
  const released: Command[] = [];
  return { journal: new Journal(limit, (command) => released.push(command)), released };
}

test('a FLUSH forgets what was answered before it was sent, and nothing later', () => {
  const { journal: kept, released } = journal(1 << 20);
  const [first, second, third] = [write(1), write(2), write(3)];
  kept.keep(first);
  kept.keep(second);
  const mark = kept.mark;
  kept.keep(third);
  expect(kept.bytes).toBe(3 * 4096);
  kept.forget(mark);
  expect(released).toEqual([first, second]);
  expect(kept.list()).toEqual([third]);
  expect(third.state).toBe(COMMAND_KEPT);
  kept.forget(mark);
  expect(kept.bytes).toBe(4096);
  kept.forget(kept.mark);
  expect(kept.empty).toBe(true);
  expect(kept.bytes).toBe(0);
});

test('a block that several commands share is counted by their lengths', () => {
  const { journal: kept } = journal(1 << 20);
  kept.keep(write(100, 3));
  expect(kept.bytes).toBe(100);
});

test('beyond twice the limit a write is not remembered, and the journal says so', () => {
  const { journal: kept, released } = journal(4096);
  for (let i = 0; i < 3; i++) kept.keep(write(10));
  expect(released).toHaveLength(1);
  expect(kept.incomplete).toBe(true);
  expect(kept.bytes).toBe(8192);
});

test('without a limit nothing is remembered, and nothing is promised', () => {
  const { journal: kept, released } = journal(0);
  kept.keep(write(10));
  expect(released).toHaveLength(1);
  expect(kept.incomplete).toBe(false);
});

test('the order is kept over thousands of writes and flushes', () => {
  const { journal: kept, released } = journal(1 << 30);
  const all = Array.from({ length: 5000 }, (_, i) => write(i + 1));
  all.forEach((command, i) => {
    kept.keep(command);
    if (i % 7 === 0) kept.forget(kept.mark - 3);
  });
  kept.forget(kept.mark);
  expect(released).toEqual(all);
});
