// The files in which a mount keeps the bytes of an image: --cache-file, --cache-dir and --trace.
//
// Used by prepare.ts, and by the command line for servers.

import { createHash } from 'node:crypto';
import { constants, lstat, mkdir, open, rm, rmdir, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { printable } from '../nbd/text.js';
import { codeOf, reasonOf } from '../transport/errors.js';
import { indexOf, keptFiles } from './chunks.js';
import { ImageError } from './errors.js';
import type { ChunkSettings, KeepRequest } from './keep-request.js';
import { Made } from './made.js';

const MODE = 0o600;
/** Characters of a name in a cache directory. */
const NAME_LENGTH = 80;

/** The name of an image's file in a cache directory. @param parts whatever tells the bytes of two mounts apart */
export function cacheName(name: string, parts: readonly (string | undefined)[]): string {
  const digest = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
  const plain = name.replaceAll(/[^\w.+-]/g, '_').replace(/^\.+/, '');
  return `${plain.slice(0, NAME_LENGTH) || 'disk'}-${digest}.img`;
}

/** Not resolve(): only the system knows where `..` leads after a link. */
const absolute = (path: string): string => (isAbsolute(path) ? path : `${process.cwd()}/${path}`);

/** Not through a link, and without waiting for the reader of a FIFO. */
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const cannotOpen = (path: string, error: unknown): ImageError =>
  new ImageError(`cannot open ${printable(path)}: ${reasonOf(error)}`, { cause: error });

/** Whether it has made the file: there was none. @throws ImageError when a file cannot be made or opened */
async function create(path: string): Promise<boolean> {
  try {
    let isNew = true;
    const handle = await open(path, FLAGS | constants.O_EXCL, MODE).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
      isNew = false;
      return open(path, FLAGS, MODE);
    });
    const found = await handle.stat();
    await handle.close();
    if (found.isFile()) return isNew;
  } catch (error) {
    throw cannotOpen(path, error);
  }
  throw new ImageError(`${printable(path)} is not a regular file`);
}

/** @throws ImageError when there is no such directory and none can be made */
async function createDirectory(path: string, made: Made): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
    made.add(() => rmdir(path));
  } catch (error) {
    if (codeOf(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    throw new ImageError(`cannot use the cache directory ${printable(path)}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * The settings of a request, with absolute paths.
 * @param name of the file in a cache directory
 */
export function keptIn({ cacheDir, ...settings }: KeepRequest, name: string): ChunkSettings {
  const { cacheFile, trace } = settings;
  const path = cacheDir === undefined ? cacheFile : join(cacheDir, name);
  return {
    ...settings,
    cacheFile: path === undefined ? undefined : absolute(path),
    trace: trace === undefined ? undefined : absolute(trace),
  };
}

/** @throws ImageError for a file of the user that is no cache: an index beside it would make it look like one */
async function refuseOther(cacheFile: string): Promise<void> {
  const size = async (path: string): Promise<number | undefined> =>
    stat(path).then(
      (found) => found.size,
      () => undefined,
    );
  if ((await size(indexOf(cacheFile))) !== undefined || ((await size(cacheFile)) ?? 0) === 0) return;
  throw new ImageError(
    `cannot use ${printable(cacheFile)} as a cache file: it is not empty, and there is no ` +
      `${printable(indexOf(cacheFile))}; nbdfuse does not overwrite it`,
  );
}

/** @throws ImageError for a file of the user that is no trace */
async function refuseOtherTrace(trace: string): Promise<void> {
  const { readTraceFile, TraceFileError } = await import('../chunks/cache/trace-file.js');
  await readTraceFile(trace).catch((error: unknown) => {
    throw error instanceof TraceFileError
      ? new ImageError(printable(error.message), { cause: error })
      : cannotOpen(trace, error);
  });
}

/** Removes the files of a cache that holds nothing, of which `paths` are new. A retry can use what it holds. */
async function removeUseless(cacheFile: string, paths: readonly string[]): Promise<void> {
  const sizes = await Promise.all(
    paths.map(async (path) => (await lstat(path).catch(() => undefined))?.size ?? 0),
  );
  if (sizes.every((size) => size === 0)) {
    await Promise.all(paths.map((path) => rm(path, { force: true })));
    return;
  }
  const { removeCache, summaryOf } = await import('../chunks/cache/directory.js');
  if (paths.includes(cacheFile) && (await summaryOf(cacheFile))?.held === 0) await removeCache(cacheFile);
}

/** Removes old caches of a directory until all take at most --cache-size together. Failures cost room only. */
async function makeRoom(directory: string, { cacheFile, cacheSize }: ChunkSettings): Promise<void> {
  if (cacheSize === undefined) return;
  const { pruneDirectory } = await import('../chunks/cache/directory.js');
  await pruneDirectory(directory, cacheSize, cacheFile).catch(() => undefined);
}

/**
 * Makes the files of these settings, which a server in the sandbox can only open.
 * @param made gets those that there were not
 * @throws ImageError when that is not possible
 */
export async function createKept(
  { cacheDir }: KeepRequest,
  settings: ChunkSettings,
  made: Made,
): Promise<void> {
  if (settings.cacheFile !== undefined) await refuseOther(settings.cacheFile);
  if (settings.trace !== undefined) await refuseOtherTrace(settings.trace);
  if (cacheDir !== undefined) {
    await createDirectory(absolute(cacheDir), made);
    await makeRoom(absolute(cacheDir), settings);
  }
  const { cacheFile, trace } = settings;
  const caches: string[] = [];
  if (cacheFile !== undefined) made.add(() => removeUseless(cacheFile, caches));
  for (const path of keptFiles(settings)) {
    if (!(await create(path))) continue;
    if (path === trace) made.add(() => rm(path, { force: true }));
    else caches.push(path);
  }
}

/**
 * Finds out whether a server without a sandbox can make the files of these settings.
 * @returns a function that removes those which it has made
 * @throws ImageError when it cannot
 */
export async function checkKept(request: KeepRequest, settings: ChunkSettings): Promise<() => Promise<void>> {
  const made = new Made();
  const remove = (): Promise<void> => made.remove();
  try {
    await createKept(request, settings, made);
  } finally {
    await remove();
  }
  return remove;
}
