// Opens the cache of an image: FILE, a sparse raw image, and FILE.index, which says what FILE holds.
//
// Both belong to one process at a time (a lock on FILE.index), and to one identity: for another one the cache starts
// anew. Files that are not of a cache are never changed. unit-store.ts writes them, cache-index.ts has the format.

import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM } from '../../constants/errno.js';
import { errnoReason } from '../../linux/errno.js';
import { lockWholeFile } from '../../linux/file-lock.js';
import { pathBytes } from '../../linux/path-text.js';
import type { Identity, UnitFile } from '../contract/cache.js';
import { MAX_IMAGE } from '../contract/units.js';
import {
  decodeHeader,
  encodeHeader,
  type FoundHeader,
  fits,
  HEADER,
  type Header,
  indexPath,
  layoutOf,
  MAGIC,
  NO_SECTION,
  slotOffset,
} from './cache-index.js';
import { DiskFile, errnoOf } from './stored-file.js';
import { type StoreFiles, UnitStore } from './unit-store.js';

const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;

/** Errors that the user can correct, at the start. */
const USER_ERRORS: readonly number[] = [EACCES, EPERM, ENOENT, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG];

/** How often opening starts again when another process removes the files meanwhile. */
const TRIES = 10;

/** A cache file cannot be used, and the user must decide. `message` is one line. */
export class CacheFileError extends Error {
  override name = 'CacheFileError';
}

/** Programs read FILE through the kernel: its bytes must stay. */
class InUseError extends Error {
  override name = 'InUseError';
}

export interface CacheFileOptions {
  /** FILE, as text (see linux/path-text). */
  readonly path: string;
  readonly identity: Identity;
  /** Bytes of the image. */
  readonly size: number;
  /** Maximum bytes of units on disk; undefined: all of the image. */
  readonly limit: number | undefined;
  /** See StoreOptions. */
  readonly quietMs?: number;
  /** Make the directories above FILE, for their owner only. */
  readonly createParents?: boolean;
  /** There is no cache, or no longer; the line says why. */
  onFailure(line: string): void;
  /** Something that the user should know. */
  onLine(line: string): void;
}

/** The state of a path itself; undefined: nothing is there. @throws the errors of lstat(2) */
export async function stateOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(pathBytes(path));
  } catch (error) {
    if (errnoOf(error) === ENOENT) return undefined;
    throw error;
  }
}

/** @throws CacheFileError if a path is not a file that this user owns */
function checkOwn(path: string, state: Stats): void {
  const kind = state.isSymbolicLink()
    ? 'a symbolic link'
    : state.isDirectory()
      ? 'a directory'
      : 'no regular file';
  if (!state.isFile()) throw new CacheFileError(`cannot use ${path} as a cache file: it is ${kind}`);
  if (state.uid !== process.geteuid?.())
    throw new CacheFileError(`cannot use ${path} as a cache file: it belongs to another user`);
}

const notOurs = (path: string, why: string): CacheFileError =>
  new CacheFileError(`cannot use ${path} as a cache file: ${why}; nbdfuse does not overwrite it`);

/** Opens a file that this user owns, or makes it. */
async function openOwn(path: string): Promise<{ handle: FileHandle; state: Stats }> {
  const handle = await open(pathBytes(path), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  try {
    const state = await handle.stat();
    checkOwn(path, state);
    return { handle, state };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** FILE.index, locked. */
export type LockedIndex = 'locked by another' | { readonly handle: FileHandle; readonly size: number };

/** Opens and locks FILE.index; makes it where FILE is missing or empty. @throws CacheFileError, system errors */
export async function openIndex(path: string): Promise<LockedIndex> {
  const name = indexPath(path);
  for (let i = 0; i < TRIES; i++) {
    const data = await stateOf(path);
    const index = await stateOf(name);
    if (data !== undefined) checkOwn(path, data);
    if (index !== undefined) checkOwn(name, index);
    if (index === undefined && data !== undefined && data.size > 0)
      throw notOurs(path, `it is not empty, and there is no ${name}`);
    const { handle, state } = await openOwn(name);
    if (!lockWholeFile(handle.fd)) {
      await handle.close();
      return 'locked by another';
    }
    // Its last user may have removed it before the lock was ours.
    const current = await stateOf(name);
    if (current?.ino === state.ino && current.dev === state.dev) return { handle, size: state.size };
    await handle.close();
  }
  throw new CacheFileError(`cannot use ${path} as a cache file: another process keeps removing it`);
}

type OwnHeader = Exclude<FoundHeader, { readonly kind: 'foreign' | 'newer' }>;

/** The fields in which two identities differ, in words. */
function difference(a: Identity, b: Identity): string | undefined {
  if (a.source !== b.source) return 'another source';
  if (a.coding !== b.coding) return 'another format or part';
  if (a.fileSize !== b.fileSize) return 'its source has another size now';
  return a.version === b.version ? undefined : 'its source has changed';
}

/** Makes both files those of an empty cache. Each step leaves files that are understood. */
async function startAnew(
  files: StoreFiles,
  old: Header | undefined,
  options: CacheFileOptions,
): Promise<Header> {
  const header: Header = {
    sequence: (old?.sequence ?? 0) + 1,
    nonce: randomBytes(8).readBigUInt64LE(),
    identity: options.identity,
    size: options.size,
    index: NO_SECTION,
    trace: NO_SECTION,
  };
  if (old === undefined) {
    // Parts of the first header alone would look like a foreign file.
    await files.index.write(0, MAGIC);
    await files.index.sync();
  }
  if (!files.data.lock()) throw new InUseError();
  // A FILE of 0 bytes means that no record counts.
  await files.data.truncate(0);
  await files.index.write(slotOffset(header), encodeHeader(header));
  await files.index.sync();
  await files.index.truncate(HEADER);
  await files.index.truncate(layoutOf(options.size).sections);
  await files.data.truncate(options.size);
  return header;
}

/** @throws CacheFileError when FILE.index is none that this nbdfuse may change */
function checkKind(path: string, found: FoundHeader): asserts found is OwnHeader {
  if (found.kind === 'foreign') throw notOurs(path, `${indexPath(path)} is not the index of a cache`);
  if (found.kind === 'newer')
    throw new CacheFileError(`cannot use ${path} as a cache file: a newer nbdfuse has made it`);
}

/** Reads the header of an existing cache, and whether its units count. @throws CacheFileError */
function decide(
  bytes: Uint8Array,
  dataSize: number,
  options: CacheFileOptions,
): { readonly header: Header | undefined; readonly isKept: boolean } {
  const { path, identity, size, onLine } = options;
  const found = decodeHeader(bytes);
  checkKind(path, found);
  switch (found.kind) {
    case 'empty':
      if (dataSize > 0) throw notOurs(path, `it is not empty, and ${indexPath(path)} is`);
      return { header: undefined, isKept: false };
    case 'older':
      onLine(`the cache ${path} is of an older nbdfuse: it is started anew`);
      return { header: undefined, isKept: false };
    case 'damaged':
      if (dataSize > 0) onLine(`the index of the cache ${path} is damaged: the cache starts anew`);
      return { header: undefined, isKept: false };
    case 'header': {
      const { header } = found;
      if (dataSize !== 0 && dataSize !== header.size)
        throw notOurs(path, `it is not the file that ${indexPath(path)} is about`);
      const why =
        difference(header.identity, identity) ?? (header.size === size ? undefined : 'another size');
      if (why !== undefined) onLine(`the cache ${path} is of another image (${why}): it is started anew`);
      return { header, isKept: why === undefined && dataSize === header.size };
    }
  }
}

/**
 * Opens the store of two locked files, or makes them one.
 * @param state of FILE: its bytes, and those on disk
 * @throws CacheFileError, the errors of the disk
 */
export async function adoptFiles(
  files: StoreFiles,
  state: { readonly size: number; readonly onDisk: number },
  options: CacheFileOptions,
): Promise<UnitStore> {
  const { header, isKept } = decide(await files.index.read(0, HEADER), state.size, options);
  const kept = isKept ? header : undefined;
  const current = kept ?? (await startAnew(files, header, options));
  const onDisk = kept === undefined ? 0 : state.onDisk;
  return await UnitStore.open(files, current, onDisk, { ...options, name: options.path });
}

/** Opens FILE and the store, after FILE.index. */
async function openStore(index: FileHandle, options: CacheFileOptions): Promise<UnitStore> {
  const indexFile = new DiskFile(index);
  // Before FILE is made.
  checkKind(options.path, decodeHeader(await indexFile.read(0, HEADER)));
  const { handle, state } = await openOwn(options.path);
  try {
    const files: StoreFiles = { data: new DiskFile(handle), index: indexFile };
    return await adoptFiles(files, { size: state.size, onDisk: state.blocks * 512 }, options);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openLocked(options: CacheFileOptions): Promise<UnitStore | undefined> {
  const { path, createParents, onFailure } = options;
  if (createParents) await mkdir(pathBytes(dirname(path)), { recursive: true, mode: 0o700 });
  const index = await openIndex(path);
  if (index === 'locked by another') {
    onFailure(`another process uses the cache ${path}; going on without it`);
    return undefined;
  }
  try {
    return await openStore(index.handle, options);
  } catch (error) {
    await index.handle.close();
    throw error;
  }
}

/**
 * Opens the cache of an image. A cache that another process uses, and a disk that fails, are no error: a line says so.
 * @returns undefined: there is no cache
 * @throws CacheFileError when the path cannot be that of a cache: the user must name another one
 */
export async function openCacheFile(options: CacheFileOptions): Promise<UnitFile | undefined> {
  const { path, identity, size, onFailure } = options;
  if (size > MAX_IMAGE || !fits(identity)) {
    onFailure(`the image is too large, or its name too long, for the cache ${path}; going on without it`);
    return undefined;
  }
  try {
    return await openLocked(options);
  } catch (error) {
    if (error instanceof CacheFileError) throw error;
    if (error instanceof InUseError) {
      onFailure(`programs still read the former image in the cache ${path}; going on without it`);
      return undefined;
    }
    const errno = errnoOf(error);
    if (USER_ERRORS.includes(errno))
      throw new CacheFileError(`cannot open the cache file ${path}: ${errnoReason(errno)}`, { cause: error });
    onFailure(`cannot open the cache ${path}: ${errnoReason(errno)}; going on without it`);
    return undefined;
  }
}
