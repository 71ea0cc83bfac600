// A cache file that the kernel reads in place of a mount: nobody changes it, whatever becomes of its image.

import { type FileHandle, open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { type CacheFileOptions, openCacheFile } from '../../../src/chunks/cache/cache-file.js';
import { maintainCache } from '../../../src/chunks/cache/directory.js';
import type { UnitFile } from '../../../src/chunks/contract/cache.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import { lockContentForReading } from '../../../src/linux/file-lock.js';
import { createScope, type Scope } from '../../support/cleanup.js';

const UNITS = 8;
const SIZE = UNITS * UNIT;
const BYTES = Buffer.alloc(SIZE, 'x');

interface Cache {
  readonly lines: string[];
  open(more?: Partial<CacheFileOptions>): Promise<UnitFile | undefined>;
  /** The file as the kernel reads it. */
  readonly direct: FileHandle;
}

async function fill(file: UnitFile | undefined): Promise<void> {
  for (let unit = 0; unit < UNITS; unit++) file?.write(unit, BYTES.subarray(0, UNIT));
  await file?.flush();
}

async function completeCache(scope: Scope): Promise<Cache> {
  const path = scope.path('cache');
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const identity = { source: 'a', coding: 'plain', fileSize: SIZE, version: 'a' };
  const options = { path, identity, size: SIZE, limit: undefined, onFailure: say, onLine: say };
  const openOne = async (more: Partial<CacheFileOptions> = {}): Promise<UnitFile | undefined> => {
    const file = await openCacheFile({ ...options, ...more });
    scope.add(() => file?.close());
    return file;
  };
  const first = await openOne();
  const direct = await open(path, 'r');
  scope.add(() => direct.close());
  expect(lockContentForReading(direct.fd)).toBe(false);
  await fill(first);
  expect(first?.isComplete).toBe(true);
  expect(lockContentForReading(direct.fd)).toBe(true);
  await first?.close();
  return { lines, open: openOne, direct };
}

const bytesOf = async (direct: FileHandle): Promise<Buffer> => {
  const { buffer, bytesRead } = await direct.read(Buffer.alloc(2 * SIZE), 0, 2 * SIZE, 0);
  return buffer.subarray(0, bytesRead);
};

it('a cache file that the kernel reads: another image goes on without it', async () => {
  const { lines, open: openCache, direct } = await completeCache(createScope());
  const identity = { source: 'a', coding: 'plain', fileSize: SIZE, version: 'b' };
  expect(await openCache({ identity })).toBeUndefined();
  expect(lines).toEqual([
    expect.stringContaining('is of another image'),
    expect.stringContaining('programs still read the former image'),
  ]);
  expect((await bytesOf(direct)).equals(BYTES)).toBe(true);
  await direct.close();
  expect(await openCache({ identity })).toMatchObject({ count: 0 });
});

it('a cache file that the kernel reads: dropped units leave its index only, and none is added', async () => {
  const { open: openCache, direct } = await completeCache(createScope());
  const file = await openCache();
  expect(file?.isComplete).toBe(true);
  await file?.drop(0, UNITS - 1);
  file?.write(0, new Uint8Array(UNIT).fill(7));
  await file?.flush();
  expect(file).toMatchObject({ count: 1, refusal: 'programs still read the cache', isComplete: false });
  expect((await bytesOf(direct)).equals(BYTES)).toBe(true);
  await direct.close();
  await fill(file);
  expect(file).toMatchObject({ count: UNITS, refusal: undefined, isComplete: true });
});

it('a cache file that the kernel reads: a smaller size makes no hole in it', async () => {
  const scope = createScope();
  const { open: openCache, direct } = await completeCache(scope);
  const file = await openCache({ limit: 2 * UNIT });
  await file?.flush();
  await file?.close();
  await maintainCache(scope.path('cache'), { limit: UNIT, isChecked: true });
  expect((await bytesOf(direct)).equals(BYTES)).toBe(true);
});
