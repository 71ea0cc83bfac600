// A server that comes back with another disk: nothing that is kept of the former one is served.

import { describe, expect, it } from 'vitest';
import { MemoryCache } from '../../../../src/chunks/cache/memory.js';
import type { UnitFile } from '../../../../src/chunks/contract/cache.js';
import type { Input } from '../../../../src/chunks/contract/coding.js';
import { lengthOfUnit, UNIT } from '../../../../src/chunks/contract/units.js';
import { PlainSource } from '../../../../src/chunks/reader/plain-source.js';
import { Reader } from '../../../../src/chunks/reader/reader.js';
import { Store } from '../../../../src/chunks/reader/store.js';
import { plainMap } from '../../../../src/chunks/schedule/chunk-map.js';
import { MemoryCacheFile } from '../../../support/chunks/opened-file.js';

/** A disk whose bytes have all one value, which changes. */
class Disk implements Input {
  value = 1;
  reads = 0;
  readonly parallel = 4;
  readonly size: number;

  constructor(units: number) {
    this.size = units * UNIT - 1000;
  }

  async read(_: number, length: number): Promise<Uint8Array> {
    this.reads += 1;
    return new Uint8Array(length).fill(this.value);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function readerOf(disk: Disk, memory: number, file?: UnitFile): { reader: Reader; lines: string[] } {
  const lines: string[] = [];
  const reader = new Reader({
    map: plainMap(disk.size),
    store: new Store(new MemoryCache(memory * UNIT), file),
    source: (events) => new PlainSource(disk, events),
    mostAhead: 0,
    onLine: (line) => lines.push(line),
  });
  return { reader, lines };
}

const EMPTIED = 'the server has other bytes than the cache, which is emptied';
const KEPT =
  'the server has another disk now; the cache file has all of the former one, and is served without it: mount it again';

describe('server that comes back', () => {
  it.each([
    ['memory', 2, false],
    ['the cache file', 0, true],
    ['both', 2, true],
  ])('with another disk: units in %s are forgotten', async (_, memory, hasFile) => {
    const disk = new Disk(8);
    const file = hasFile ? await new MemoryCacheFile('plain').open(disk.size) : undefined;
    const { reader, lines } = readerOf(disk, memory, file);
    const valueAt = async (unit: number): Promise<number> => (await reader.read(unit * UNIT, 1))[0][0];
    for (let unit = 0; unit < 8; unit++) expect(await valueAt(unit)).toBe(1);
    await file?.flush();
    await reader.compare(disk, true);
    expect(lines).toEqual([]);
    const { reads } = disk;
    expect(await valueAt(7)).toBe(1);
    expect(disk.reads).toBe(reads);
    disk.value = 2;
    await reader.compare(disk, true);
    expect(lines).toEqual([EMPTIED]);
    for (let unit = 0; unit < 8; unit++) expect(await valueAt(unit)).toBe(2);
    await reader.compare(disk, true);
    expect(lines).toEqual([EMPTIED]);
    await file?.close();
  });

  it('with another disk: a complete cache file is served without it, if the disk is only read', async () => {
    const disk = new Disk(8);
    const file = await new MemoryCacheFile('plain').open(disk.size);
    const { reader, lines } = readerOf(disk, 2, file);
    await reader.read(0, disk.size);
    await file?.flush();
    expect(file?.isComplete).toBe(true);
    disk.value = 2;
    for (let time = 0; time < 2; time++) await reader.compare(disk, false);
    expect(lines).toEqual([KEPT]);
    const { reads } = disk;
    for (const part of await reader.read(0, disk.size)) expect(new Set(part)).toEqual(new Set([1]));
    file?.drop(3, 1);
    await expect(reader.read(3 * UNIT, 1)).rejects.toThrow('the server has another disk now');
    expect(disk.reads).toBe(reads);
    disk.value = 1;
    await reader.compare(disk, false);
    expect((await reader.read(3 * UNIT, 1))[0][0]).toBe(1);
    await file?.close();
  });

  it.each([
    ['is only read: nothing comes from it any more', false],
    ['is writable: its bytes are served', true],
  ])('with another disk, when the cache file can record nothing, and it %s', async (_, isWritable) => {
    const disk = new Disk(8);
    const cache = new MemoryCacheFile('plain');
    const file = await cache.open(disk.size);
    if (file === undefined) throw new Error('there is no cache file');
    const { reader, lines } = readerOf(disk, 2, file);
    await reader.read(0, 3 * UNIT);
    await file.flush();
    file.drop = () => Promise.reject(new Error('the cache cannot be emptied'));
    file.has = () => false;
    disk.value = 2;
    for (let time = 0; time < 2; time++) await reader.compare(disk, isWritable);
    expect(lines).toContain('the cache cannot be emptied');
    const found = reader.read(7 * UNIT, 1);
    if (isWritable) expect((await found)[0][0]).toBe(2);
    else await expect(found).rejects.toThrow('the server has another disk now');
    // A fetch that was under way.
    reader.deliver(6, new Uint8Array(UNIT).fill(2));
    if (!isWritable) await expect(reader.read(6 * UNIT, 1)).rejects.toThrow('another disk');
  });

  it('with another disk of more than 4 TiB: its units are forgotten at once', async () => {
    const disk = new Disk(2 ** 24 + 1);
    const { reader, lines } = readerOf(disk, 2);
    const last = 2 ** 24;
    await reader.read(last * UNIT, lengthOfUnit(last, disk.size));
    disk.value = 2;
    const began = performance.now();
    await reader.compare(disk, true);
    expect(performance.now() - began).toBeLessThan(500);
    expect(lines).toEqual([EMPTIED]);
    expect((await reader.read(last * UNIT, 1))[0][0]).toBe(2);
  });
});

describe('CACHE', () => {
  it('counts as a use of the units of a range that are kept, and fetches nothing', async () => {
    const disk = new Disk(8);
    const { reader } = readerOf(disk, 3);
    for (const unit of [1, 2, 4]) await reader.read(unit * UNIT, 1);
    const asked: number[] = [];
    reader.onDemand = (unit) => asked.push(unit);
    const { reads } = disk;
    reader.use(UNIT - 1, UNIT + 2);
    reader.use(disk.size - 1, 1);
    expect(asked).toEqual([1, 2]);
    expect(reader.counts.hits).toBe(2);
    expect(disk.reads).toBe(reads);
    // The least recently used one makes room.
    await reader.read(5 * UNIT, 1);
    expect([1, 2, 4, 5].map((unit) => reader.isSettled(unit))).toEqual([true, true, false, true]);
  });

  it('keeps a unit of the cache file from making room', async () => {
    const disk = new Disk(8);
    const file = await new MemoryCacheFile('plain', 4 * UNIT).open(disk.size);
    if (file === undefined) throw new Error('there is no cache file');
    const { reader } = readerOf(disk, 0, file);
    for (const unit of [0, 1, 2, 3]) {
      await reader.read(unit * UNIT, 1);
      await file.flush();
    }
    reader.use(0, 1);
    await reader.read(4 * UNIT, 1);
    await file.flush();
    expect(file.has(0)).toBe(true);
    expect(file.has(1)).toBe(false);
    await file.close();
  });
});
