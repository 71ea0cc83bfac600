import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Block, Blocks } from '../../src/bridge/blocks.js';

const MIB = 1024 * 1024;

/** Bytes of this process that are in memory. */
function resident(): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}

function takeFilled(blocks: Blocks, count: number): Block[] {
  return Array.from({ length: count }, () => {
    const block = blocks.take(MIB);
    block.bytes.fill(7);
    return block;
  });
}

test('memory that was not needed between two calls goes back to the system, and comes again', () => {
  const blocks = new Blocks(256 * MIB);
  const taken = takeFilled(blocks, 64);
  expect(blocks.hasSpare).toBe(false);
  for (const block of taken) blocks.release(block);
  expect(blocks.hasSpare).toBe(true);

  const before = resident();
  blocks.discardSpare();
  expect(before - resident()).toBeLessThan(16 * MIB);
  // Eight of them are needed now and then.
  for (const block of takeFilled(blocks, 8)) blocks.release(block);
  blocks.discardSpare();
  expect(before - resident()).toBeGreaterThan(48 * MIB);
  expect(blocks.hasSpare).toBe(true);
  blocks.discardSpare();
  expect(before - resident()).toBeGreaterThan(56 * MIB);
  expect(blocks.hasSpare).toBe(false);

  const again = takeFilled(blocks, 64);
  expect(again.every((block) => taken.includes(block))).toBe(true);
  expect(again.every(({ bytes }) => bytes[0] === 7 && bytes.at(-1) === 7)).toBe(true);
});

test('what is in use keeps its contents', () => {
  const blocks = new Blocks(256 * MIB);
  const [kept, ...others] = takeFilled(blocks, 4);
  for (const block of others) blocks.release(block);
  blocks.discardSpare();
  blocks.discardSpare();
  expect(kept.bytes.every((byte) => byte === 7)).toBe(true);
});
