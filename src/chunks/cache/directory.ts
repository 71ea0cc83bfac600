// Looks at cache files from outside: lists, checks, copies and removes them, also while a mount uses them.
//
// Looking needs no lock, since records are checked against the bytes. Changes need the lock of FILE.index.

import { constants } from 'node:fs';
import { open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isWholeFileLocked } from '../../linux/file-lock.js';
import { pathBytes } from '../../linux/path-text.js';
import type { Identity, UnitFile } from '../contract/cache.js';
import { UNIT } from '../contract/units.js';
import { adoptFiles, CacheFileError, openIndex, stateOf } from './cache-file.js';
import { decodeHeader, HEADER, type Header, indexPath } from './cache-index.js';
import { loadStore } from './load.js';
import type { Regions } from './regions.js';
import { DiskFile } from './stored-file.js';

const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
const INDEX = /\.index$/;

/** A cache as it lies on disk. */
export interface CacheSummary {
  readonly path: string;
  readonly identity: Identity;
  /** Bytes of the image. */
  readonly size: number;
  /** Bytes of the image that the cache holds, and bytes that both files take on disk. */
  readonly held: number;
  readonly onDisk: number;
  readonly complete: boolean;
  /** Whether a process uses it. */
  readonly inUse: boolean;
  /** Time of the last change, in milliseconds since 1970. */
  readonly lastUse: number;
}

interface Snapshot {
  readonly header: Header;
  readonly regions: Regions;
  readonly inUse: boolean;
}

/** Reads FILE.index. @returns undefined when it is none of a cache @throws system errors */
async function snapshotOf(path: string): Promise<Snapshot | undefined> {
  const handle = await open(pathBytes(indexPath(path)), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    if (!(await handle.stat()).isFile()) return undefined;
    const file = new DiskFile(handle);
    const found = decodeHeader(await file.read(0, HEADER));
    if (found.kind !== 'header') return undefined;
    const { regions } = await loadStore(file, found.header, false);
    return { header: found.header, regions, inUse: isWholeFileLocked(handle.fd) };
  } finally {
    await handle.close();
  }
}

/** A cache by the name of FILE; undefined: there is none. @throws system errors */
export async function summaryOf(path: string): Promise<CacheSummary | undefined> {
  const [data, index] = [await stateOf(path), await stateOf(indexPath(path))];
  if (index === undefined) return undefined;
  const snapshot = await snapshotOf(path);
  if (snapshot === undefined) return undefined;
  const { header, regions, inUse } = snapshot;
  // Without the bytes of FILE no record counts.
  const isWhole = data?.size === header.size;
  const absent = [...regions.absentRanges()].reduce((sum, [, length]) => sum + length, 0);
  return {
    path,
    identity: header.identity,
    size: header.size,
    held: isWhole ? header.size - absent : 0,
    onDisk: ((data?.blocks ?? 0) + index.blocks) * 512,
    complete: isWhole && absent === 0,
    inUse,
    lastUse: Math.max(index.mtimeMs, data?.mtimeMs ?? 0),
  };
}

/** The caches in a directory, the most recently used first. @throws system errors */
export async function listDirectory(directory: string): Promise<CacheSummary[]> {
  const names = (await readdir(pathBytes(directory))).map(String).filter((name) => INDEX.test(name));
  const found = await Promise.all(
    names.map((name) => summaryOf(join(directory, name.replace(INDEX, ''))).catch(() => undefined)),
  );
  return found.filter((one) => one !== undefined).sort((a, b) => b.lastUse - a.lastUse);
}

const locked = (path: string): CacheFileError =>
  new CacheFileError(`a process uses the cache ${path}: unmount it first`);

const noCache = (path: string): CacheFileError =>
  new CacheFileError(`${path} is not a cache file of nbdfuse`);

/** @throws CacheFileError when there is no cache */
async function existing(path: string): Promise<CacheSummary> {
  const summary = await summaryOf(path);
  if (summary === undefined) throw noCache(path);
  return summary;
}

/** Removes a cache. @throws CacheFileError when a process uses it, or it is none; system errors */
export async function removeCache(path: string): Promise<void> {
  await existing(path);
  const index = await openIndex(path);
  if (index === 'locked by another') throw locked(path);
  try {
    // An index without FILE is that of an empty cache; FILE without an index would be foreign.
    await rm(pathBytes(path), { force: true });
    await rm(pathBytes(indexPath(path)), { force: true });
  } finally {
    await index.handle.close();
  }
}

/**
 * Removes caches of a directory that no process uses, the least recently used first.
 * @param limit maximum bytes on disk of all caches together
 * @param kept FILE of a cache that stays
 * @returns the removed ones
 * @throws system errors
 */
export async function pruneDirectory(
  directory: string,
  limit: number,
  kept?: string,
): Promise<CacheSummary[]> {
  const caches = await listDirectory(directory);
  let sum = caches.reduce((all, { onDisk }) => all + onDisk, 0);
  const removed: CacheSummary[] = [];
  for (const cache of caches.reverse()) {
    if (sum <= limit) break;
    if (cache.inUse || cache.path === kept) continue;
    try {
      await removeCache(cache.path);
    } catch (error) {
      // Somebody has begun to use it.
      if (error instanceof CacheFileError) continue;
      throw error;
    }
    sum -= cache.onDisk;
    removed.push(cache);
  }
  return removed;
}

/** The numbers of stored units: an image may have thousands of millions of others. */
function inOrder(units: ReturnType<UnitFile['units']>): readonly number[] {
  return Array.from(units, ({ unit }) => unit).sort((a, b) => a - b);
}

/** The result of a check: units that the cache had, and the offsets of those whose bytes were wrong. */
export interface Verification {
  readonly units: number;
  readonly damaged: readonly number[];
}

/**
 * Locks a cache and removes its least recently used units beyond a limit; with `isChecked` it reads all others, and
 * removes those whose bytes are wrong.
 * @throws CacheFileError when a process uses it, or it is none; system errors
 */
export async function maintainCache(
  path: string,
  { limit, isChecked }: { readonly limit?: number; readonly isChecked?: boolean },
): Promise<Verification> {
  const { identity, size } = await existing(path);
  const index = await openIndex(path);
  if (index === 'locked by another') throw locked(path);
  const handle = await open(pathBytes(path), O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch(
    async (error: unknown) => {
      await index.handle.close();
      throw error;
    },
  );
  const failures: string[] = [];
  const files = { data: new DiskFile(handle), index: new DiskFile(index.handle) };
  const state = await handle.stat();
  const store = await adoptFiles(
    files,
    { size: state.size, onDisk: state.blocks * 512 },
    { path, identity, size, limit, onFailure: (line) => void failures.push(line), onLine: () => undefined },
  ).catch(async (error: unknown) => {
    await Promise.all([handle.close(), index.handle.close()]);
    throw error;
  });
  const damaged: number[] = [];
  const units = store.count;
  try {
    await store.flush();
    if (isChecked)
      for (const unit of inOrder(store.units()))
        if ((await store.read(unit)) === undefined) damaged.push(unit * UNIT);
  } finally {
    await store.close();
  }
  if (failures.length > 0) throw new CacheFileError(failures[0]);
  return { units, damaged };
}

/**
 * Copies the image of a cache into a new sparse file.
 * @param isPartial whether absent bytes may become zeros
 * @returns the share of the image that was copied, from 0 to 1
 * @throws CacheFileError when bytes are absent, or OUT exists; system errors
 */
export async function exportCache(path: string, out: string, isPartial: boolean): Promise<number> {
  const { size, held } = await existing(path);
  const refuse = (bytes: number): void => {
    const percent = Math.floor((100 * bytes) / size);
    if (!isPartial && bytes < size)
      throw new CacheFileError(`${path} holds ${percent} % of the image; copy those with --partial`);
  };
  refuse(held);
  if ((await stateOf(out)) !== undefined) throw new CacheFileError(`${out} exists; name another file`);
  const snapshot = await snapshotOf(path);
  if (snapshot === undefined) throw noCache(path);
  const { regions } = snapshot;
  const from = await open(pathBytes(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const to = await open(pathBytes(out), 'wx', 0o600);
  let copied = 0;
  try {
    const [source, target] = [new DiskFile(from), new DiskFile(to)];
    await to.truncate(size);
    for (const unit of inOrder(regions.stored())) {
      const bytes = await source.read(unit * UNIT, regions.lengthOf(unit));
      if (bytes.length !== regions.lengthOf(unit) || !regions.isRight(unit, 0, bytes)) continue;
      copied += bytes.length;
      if (bytes.some((byte) => byte !== 0)) await target.write(unit * UNIT, bytes);
    }
    refuse(copied);
    await target.sync();
  } catch (error) {
    await rm(pathBytes(out), { force: true });
    throw error;
  } finally {
    await Promise.all([from.close(), to.close()]);
  }
  return size === 0 ? 1 : copied / size;
}

/** Whether a path is a directory. */
export async function isDirectory(path: string): Promise<boolean> {
  return (await stat(pathBytes(path)).catch(() => undefined))?.isDirectory() ?? false;
}
