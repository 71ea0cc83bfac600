import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { WRITE_DATA } from '../../../../src/fuse/layout.js';
import { BufferPool, type PooledBuffer } from '../../../../src/worker/memory/buffer-pool.js';

const MIB = 1024 * 1024;

/** Bytes of this process that are in memory. */
function resident(): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}

function takeFilled(buffers: BufferPool, count: number): PooledBuffer[] {
  return Array.from({ length: count }, () => {
    const buffer = buffers.take(MIB);
    buffer.bytes.fill(7);
    return buffer;
  });
}

test('buffer pool: returns unused memory to the system, and takes it again', () => {
  const buffers = new BufferPool(256 * MIB);
  const taken = takeFilled(buffers, 64);
  expect(buffers.hasSpare).toBe(false);
  for (const buffer of taken) buffers.release(buffer);
  expect(buffers.hasSpare).toBe(true);

  const before = resident();
  buffers.discardSpare();
  expect(before - resident()).toBeLessThan(16 * MIB);
  // Eight of them are needed occasionally.
  for (const buffer of takeFilled(buffers, 8)) buffers.release(buffer);
  buffers.discardSpare();
  expect(before - resident()).toBeGreaterThan(48 * MIB);
  expect(buffers.hasSpare).toBe(true);
  buffers.discardSpare();
  expect(before - resident()).toBeGreaterThan(56 * MIB);
  expect(buffers.hasSpare).toBe(false);

  const again = takeFilled(buffers, 64);
  expect(again.every((buffer) => taken.includes(buffer))).toBe(true);
  expect(again.every(({ bytes }) => bytes[0] === 7 && bytes.at(-1) === 7)).toBe(true);
});

test('buffer pool: keeps the contents of buffers in use when it returns memory', () => {
  const buffers = new BufferPool(256 * MIB);
  const [kept, ...others] = takeFilled(buffers, 4);
  for (const buffer of others) buffers.release(buffer);
  buffers.discardSpare();
  buffers.discardSpare();
  expect(kept.bytes.every((byte) => byte === 7)).toBe(true);
});

test('buffer pool: returns memory of one size class when another class needs much', () => {
  const buffers = new BufferPool(512 * MIB);
  const small = (count: number): PooledBuffer[] =>
    Array.from({ length: count }, () => {
      const buffer = buffers.take(32 * 1024);
      buffer.bytes.fill(8);
      return buffer;
    });
  for (const buffer of takeFilled(buffers, 80)) buffers.release(buffer);
  const before = resident();
  const taken = small(80 * 32);
  expect(buffers.resident).toBeLessThanOrEqual(96 * MIB);
  expect(resident() - before).toBeLessThan(24 * MIB);
  expect(taken.every(({ bytes }) => bytes.every((byte) => byte === 8))).toBe(true);
  // Buffers in use stay; the pool allocates more when it must.
  const large = takeFilled(buffers, 64);
  expect(buffers.resident).toBeGreaterThan(140 * MIB);
  expect(large.every(({ bytes }) => bytes[0] === 7 && bytes.at(-1) === 7)).toBe(true);
  expect(taken.every(({ bytes }) => bytes[0] === 8)).toBe(true);
});

test('buffer pool: large buffers share no page, and the data of a WRITE begin at a page', () => {
  const buffers = new BufferPool(256 * MIB);
  const taken = Array.from({ length: 40 }, () => buffers.take(MIB));
  const ranges = taken.map(({ address, bytes }) => {
    const data = address + WRITE_DATA;
    expect(data % 4096).toBe(0);
    return { first: data - 4096, end: Math.ceil((address + bytes.length) / 4096) * 4096 };
  });
  ranges.sort((a, b) => a.first - b.first);
  for (const [i, { end }] of ranges.slice(0, -1).entries())
    expect(end).toBeLessThanOrEqual(ranges[i + 1].first);
  for (const [i, buffer] of taken.entries()) buffer.bytes.fill(i + 1);
  expect(taken.every(({ bytes }, i) => bytes.every((byte) => byte === i + 1))).toBe(true);

  taken[7].discard();
  expect(taken[7].bytes.every((byte) => byte === 0)).toBe(true);
  expect(taken.every(({ bytes }, i) => i === 7 || bytes.every((byte) => byte === i + 1))).toBe(true);
});
