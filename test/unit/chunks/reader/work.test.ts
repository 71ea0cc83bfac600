// Prefetching: the work follows from the bytes that there are, and not from the size that an image claims; it waits for a
// slow cache file, and for a source that is away.

import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { adoptFiles } from '../../../../src/chunks/cache/cache-file.js';
import { MemoryCache } from '../../../../src/chunks/cache/memory.js';
import type { StoredFile } from '../../../../src/chunks/cache/stored-file.js';
import type { UnitFile } from '../../../../src/chunks/contract/cache.js';
import { type Input, START } from '../../../../src/chunks/contract/coding.js';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import { AbsentInput } from '../../../../src/chunks/input/absent-input.js';
import { type Image, openImage } from '../../../../src/chunks/reader/image.js';
import { startPrefetch } from '../../../../src/chunks/reader/prefetch.js';
import { Reader } from '../../../../src/chunks/reader/reader.js';
import { Store } from '../../../../src/chunks/reader/store.js';
import { Work } from '../../../../src/chunks/reader/work.js';
import { PointMap } from '../../../../src/chunks/schedule/chunk-map.js';
import { BACKGROUND } from '../../../../src/chunks/schedule/tasks.js';
import { EIO, ENOSPC } from '../../../../src/constants/errno.js';
import { SystemError } from '../../../../src/linux/errno.js';
import { createScope } from '../../../support/cleanup.js';
import { CrashingDisk, emptyDisk } from '../../../support/crashing-disk.js';

/** Units of the image: so many questions take seconds. */
const UNITS = 2 ** 23;
/** Units with bytes. */
const SOUND = 3;

/** A memory that counts the questions for a unit. */
class CountingMemory extends MemoryCache {
  questions = 0;

  override has(unit: number): boolean {
    this.questions += 1;
    return super.has(unit);
  }
}

function createReader(): { readonly reader: Reader; readonly memory: CountingMemory } {
  const memory = new CountingMemory(64 * UNIT);
  const reader = new Reader({
    map: new PointMap(UNITS * UNIT, [START]),
    store: new Store(memory, undefined),
    source: () => ({ maxOpen: 1, open: () => undefined, change: () => undefined, close: () => undefined }),
    mostAhead: 0,
    onLine: () => undefined,
  });
  for (let unit = 0; unit < SOUND; unit++) reader.deliver(unit, new Uint8Array(UNIT).fill(1));
  return { reader, memory };
}

/** A source whose bytes are there at once. */
const inputOf = (size: number): Input => {
  const bytes = new Uint8Array(UNIT).fill(1);
  return {
    size,
    parallel: 64,
    read: async (_, length) => bytes.subarray(0, length),
    close: async () => undefined,
  };
};

interface FileOptions {
  /** Replaces the writes to the data. */
  readonly write?: StoredFile['write'];
  readonly limit?: number;
  /** Lines for the user. */
  readonly lines?: string[];
  /** Bytes of the image, whose last unit may be shorter. */
  readonly size?: number;
}

/** A cache file of so many units. */
async function createFile(
  units: number,
  { write, limit, lines = [], size = units * UNIT }: FileOptions,
): Promise<UnitFile> {
  const disk = new CrashingDisk(emptyDisk(), () => 0);
  const file = disk.file('data');
  const data: StoredFile = write === undefined ? file : { ...file, write };
  return adoptFiles(
    { data, index: disk.file('index') },
    { size: 0, onDisk: 0 },
    {
      path: 'FILE',
      identity: { source: 'a', coding: 'plain', fileSize: size, version: 'a' },
      size,
      limit,
      onFailure: (line) => lines.push(line),
      onLine: (line) => lines.push(line),
    },
  );
}

/** Prefetches an image until it ends. */
async function prefetchAll(image: Image, memory: MemoryCache, lines: string[]): Promise<Work> {
  const events = new EventEmitter();
  const ended = once(events, 'end');
  const work = await Work.start({
    ...{ image, memory, prefetch: { rate: undefined }, trace: undefined },
    onChange: () => events.emit('end'),
    onLine: (line) => lines.push(line),
  });
  createScope().add(() => work.stop());
  await ended;
  return work;
}

/** An image that is not compressed. */
function openPlain(input: Input, memory: MemoryCache, file?: UnitFile): Promise<Image> {
  return openImage({
    input,
    coding: 'plain',
    memory,
    openFile: async () => file,
    startPool: () => expect.unreachable(),
    onLine: (line) => expect(line).toBe(''),
    onProgress: () => undefined,
  });
}

describe('prefetching', () => {
  it('completes a cache file whose disk is slower than the source', async () => {
    const units = 600;
    const lines: string[] = [];
    const file = await createFile(units, { write: () => delay(4), lines });
    const memory = new MemoryCache(8 * UNIT);
    const image = await openPlain(inputOf(units * UNIT), memory, file);
    await prefetchAll(image, memory, lines);
    await file.flush();
    expect(file.isComplete).toBe(true);
    expect(lines).toEqual([]);
    // Units that the file has left out were fetched again.
    expect(image.reader.counts.fetched).toBeLessThan(2 * units * UNIT);
    await file.close();
  });

  it('ends when the cache has its maximum size, and nothing goes for it', async () => {
    const [units, room] = [600, 100];
    const lines: string[] = [];
    const file = await createFile(units, { limit: room * UNIT, lines });
    const memory = new MemoryCache(8 * UNIT);
    const image = await openPlain(inputOf(units * UNIT), memory, file);
    const work = await prefetchAll(image, memory, lines);
    await file.flush();
    expect(Array.from({ length: units }, (_, unit) => file.has(unit)).lastIndexOf(true)).toBe(room - 1);
    expect(image.reader.counts.fetched).toBe(room * UNIT);
    const why = 'the cache has its maximum size';
    expect(lines).toEqual([`prefetching ends with 16 % of the image: ${why}`]);
    expect(work.status.prefetch).toEqual({ done: room * UNIT, all: units * UNIT, stopped: why });
    await file.close();
  });

  it.each([
    [ENOSPC, 'the disk of the cache is full'],
    [EIO, 'the cache has failed'],
  ])('ends when the disk of the cache takes no more (error %i)', async (errno, why) => {
    const [units, room] = [2000, 100];
    const lines: string[] = [];
    let left = room;
    const write = async (): Promise<void> => {
      if (--left < 0) throw new SystemError(errno, 'write');
      await delay(1);
    };
    const file = await createFile(units, { write, lines });
    const memory = new MemoryCache(8 * UNIT);
    const image = await openPlain(inputOf(units * UNIT), memory, file);
    const work = await prefetchAll(image, memory, lines);
    // The store takes more before it knows that there is no room.
    expect(image.reader.counts.fetched).toBeLessThan(500 * UNIT);
    expect(lines).toEqual([expect.stringContaining('FILE'), expect.stringContaining(why)]);
    expect(work.status.prefetch?.stopped).toBe(why);
    await file.close();
  });

  it.each([100 * UNIT, 99 * UNIT + 512])(
    'completes a cache whose maximum size is that of the image, of %i bytes',
    async (size) => {
      const lines: string[] = [];
      const file = await createFile(100, { limit: size, lines, size });
      const memory = new MemoryCache(8 * UNIT);
      const image = await openPlain(inputOf(size), memory, file);
      const work = await prefetchAll(image, memory, lines);
      expect(lines).toEqual([]);
      expect(work.status.prefetch?.stopped).toBeUndefined();
      await file.flush();
      expect(file.isComplete).toBe(true);
      await file.close();
    },
  );

  it('waits for a source that is away, so that the pauses between two looks for it grow', async () => {
    vi.useFakeTimers({
      toFake: ['performance', 'setTimeout', 'setInterval', 'setImmediate', 'clearInterval'],
    });
    onTestFinished(() => void vi.useRealTimers());
    const memory = new MemoryCache(64 * UNIT);
    const input = new AbsentInput(2000 * UNIT, 'away');
    const image = await openPlain(input, memory);
    const work = await Work.start({
      ...{ image, memory, prefetch: { rate: undefined }, trace: undefined, isAway: true },
      onChange: () => undefined,
      onLine: (line) => expect(line).toContain('more does not fit the memory'),
    });
    let looks = 0;
    let found: Input | undefined;
    input.look(async () => {
      looks += 1;
      if (found === undefined) throw new Error('away');
      work.sourceIsBack();
      return found;
    });
    await vi.advanceTimersByTimeAsync(5 * 60_000);
    // After 1, 3, 7, 15, 31 and 63 s, and all 32 s from then on.
    expect(looks).toBe(13);
    found = inputOf(input.size);
    await vi.advanceTimersByTimeAsync(40_000);
    expect(looks).toBe(14);
    expect(work.status.prefetch?.done).toBeGreaterThan(0);
    await work.stop();
    await input.close();
  });

  it('ends at the units that cannot be decoded, and counts them as done', async () => {
    const { reader, memory } = createReader();
    reader.fail(SOUND, UNITS, 'damaged', undefined);
    reader.fail(SOUND + 1, SOUND + 3, 'damaged', undefined);
    const image = { reader, file: undefined, parallel: 1, close: () => Promise.resolve() };
    const events = new EventEmitter();
    const ended = once(events, 'end');
    const work = await Work.start({
      image,
      memory,
      prefetch: { rate: undefined },
      trace: undefined,
      onChange: () => events.emit('end'),
      onLine: () => undefined,
    });
    createScope().add(() => work.stop());
    await ended;
    const all = UNITS * UNIT;
    expect(work.status.prefetch).toEqual({ done: all, all });
    expect(memory.questions).toBeLessThan(1000);
  });

  it('passes over units that are there without keeping others waiting', async () => {
    const { reader, memory } = createReader();
    let [most, last] = [0, 0];
    const turn = (): void => {
      most = Math.max(most, memory.questions - last);
      last = memory.questions;
      next = setImmediate(turn);
    };
    let next = setImmediate(turn);
    function* units(): Generator<number, undefined> {
      for (let i = 0; i < 500_000; i++) yield i % SOUND;
    }
    const events = new EventEmitter();
    const ended = once(events, 'end');
    const stop = startPrefetch({
      reader,
      priority: BACKGROUND,
      units: units(),
      rate: undefined,
      parallel: 1,
      file: undefined,
      roomFor: () => 'yes',
      onEnd: () => events.emit('end'),
    });
    createScope().add(() => {
      stop();
      clearImmediate(next);
    });
    await ended;
    clearImmediate(next);
    turn();
    clearImmediate(next);
    expect(memory.questions).toBeGreaterThan(499_999);
    expect(most).toBeLessThan(200_000);
  });
});
