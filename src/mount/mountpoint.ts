// The three forms of MOUNTPOINT: a directory, a new name in a directory, or an existing file.
//
// Called once a start, before anything is mounted. Cleans up what a killed nbdfuse left behind.

import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { detach } from './detach.js';
import { MountError } from './errors.js';
import { findMount } from './mount-table.js';

/** The name of the file in a mounted directory, when none is given. */
const DEFAULT_NAME = 'nbd';

/** Where to mount what. */
export interface Mountpoint {
  /** What is mounted over. */
  readonly kind: 'directory' | 'file';
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** Name of the file in the directory; empty when the file is the mountpoint. */
  readonly filename: string;
  /** As the user wrote it. */
  readonly text: string;
  /** What was cleaned up, if anything: a line for the user. */
  readonly notice: string | undefined;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

type Kind = 'directory' | 'file' | 'other' | 'missing' | 'stale';

async function kindOf(path: string): Promise<Kind> {
  try {
    const found = await stat(path);
    return found.isDirectory() ? 'directory' : found.isFile() ? 'file' : 'other';
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOTCONN' || code === 'ECONNABORTED') return 'stale';
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'missing';
    throw new MountError(`mountpoint ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The path without symbolic links in its folder; its last part may be a dead mount. */
async function canonical(path: string): Promise<string> {
  const folder = await realpath(dirname(path)).catch(() => dirname(path));
  return path === '/' ? path : resolve(folder, basename(path));
}

/** Removes the mount that a dead process left at `path`. */
async function cleanStale(path: string, text: string): Promise<string> {
  const entry = await findMount(path);
  if (entry === undefined) {
    throw new MountError(
      `mountpoint ${text}: it is on a file system whose server has died; unmount that first`,
    );
  }
  try {
    await detach(path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new MountError(
      `mountpoint ${text}: a dead mount is in the way: ${why}; try: fusermount3 -u -z ${text}`,
    );
  }
  return `${text}: removed the mount that an nbdfuse which did not end in order had left there`;
}

/** Refuses to mount over a file system of our own kind that is alive. */
async function refuseBusy(path: string, text: string): Promise<void> {
  const entry = await findMount(path);
  if (entry?.type.startsWith('fuse') === true) {
    throw new MountError(
      `mountpoint ${text}: ${entry.source} (${entry.type}) is mounted there; unmount it first: fusermount3 -u ${text}`,
    );
  }
}

/** Finds out what MOUNTPOINT means. @throws MountError when it cannot be mounted over */
export async function resolveMountpoint(text: string): Promise<Mountpoint> {
  const path = await canonical(resolve(text));
  let notice: string | undefined;
  let kind = await kindOf(path);
  if (kind === 'stale') {
    notice = await cleanStale(path, text);
    kind = await kindOf(path);
  }
  if (kind === 'directory' || kind === 'file') {
    const real = await realpath(path);
    await refuseBusy(real, text);
    if (kind === 'file') return { kind, path: real, filename: '', text, notice };
    return { kind, path: real, filename: DEFAULT_NAME, text, notice };
  }
  if (kind === 'other') throw new MountError(`mountpoint ${text}: neither a directory nor a regular file`);
  return inFolder(text, path, notice);
}

async function inFolder(text: string, path: string, before: string | undefined): Promise<Mountpoint> {
  const folder = dirname(path);
  const folderText = dirname(text);
  let notice = before;
  let kind = await kindOf(folder);
  if (kind === 'stale') {
    notice = await cleanStale(folder, folderText);
    kind = await kindOf(folder);
  }
  if (kind !== 'directory' || text.endsWith('/')) {
    const missing = text.endsWith('/') ? text : folderText;
    throw new MountError(
      `mountpoint ${text}: there is no directory ${missing}; make it first: mkdir -p ${missing}`,
    );
  }
  await refuseBusy(folder, folderText);
  return { kind: 'directory', path: folder, filename: basename(path), text, notice };
}
