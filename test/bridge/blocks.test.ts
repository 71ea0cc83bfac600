import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Block, Blocks } from '../../src/bridge/blocks.js';
import { WRITE_DATA } from '../../src/fuse/layout.js';

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

test('buffer pool: returns memory that was not needed between two calls to the system, and takes it again', () => {
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

test('buffer pool: buffers in use keep their contents', () => {
  const blocks = new Blocks(256 * MIB);
  const [kept, ...others] = takeFilled(blocks, 4);
  for (const block of others) blocks.release(block);
  blocks.discardSpare();
  blocks.discardSpare();
  expect(kept.bytes.every((byte) => byte === 7)).toBe(true);
});

test('buffer pool: returns free buffers of one size when another size needs much memory', () => {
  const blocks = new Blocks(512 * MIB);
  const small = (count: number): Block[] =>
    Array.from({ length: count }, () => {
      const block = blocks.take(32 * 1024);
      block.bytes.fill(8);
      return block;
    });
  for (const block of takeFilled(blocks, 80)) blocks.release(block);
  const before = resident();
  const taken = small(80 * 32);
  expect(blocks.resident).toBeLessThanOrEqual(96 * MIB);
  expect(resident() - before).toBeLessThan(24 * MIB);
  expect(taken.every(({ bytes }) => bytes.every((byte) => byte === 8))).toBe(true);
  // What is in use stays, and more than that is taken when it must be.
  const large = takeFilled(blocks, 64);
  expect(blocks.resident).toBeGreaterThan(140 * MIB);
  expect(large.every(({ bytes }) => bytes[0] === 7 && bytes.at(-1) === 7)).toBe(true);
  expect(taken.every(({ bytes }) => bytes[0] === 8)).toBe(true);
});

test('buffer pool: large buffers own their pages, and the data of a WRITE begins on a page boundary', () => {
  const blocks = new Blocks(256 * MIB);
  const taken = Array.from({ length: 40 }, () => blocks.take(MIB));
  const ranges = taken.map(({ address, bytes }) => {
    const data = address + WRITE_DATA;
    expect(data % 4096).toBe(0);
    return { first: data - 4096, end: Math.ceil((address + bytes.length) / 4096) * 4096 };
  });
  ranges.sort((a, b) => a.first - b.first);
  for (const [i, { end }] of ranges.slice(0, -1).entries())
    expect(end).toBeLessThanOrEqual(ranges[i + 1].first);
  for (const [i, block] of taken.entries()) block.bytes.fill(i + 1);
  expect(taken.every(({ bytes }, i) => bytes.every((byte) => byte === i + 1))).toBe(true);

  taken[7].discard();
  expect(taken[7].bytes.every((byte) => byte === 0)).toBe(true);
  expect(taken.every(({ bytes }, i) => i === 7 || bytes.every((byte) => byte === i + 1))).toBe(true);
});
