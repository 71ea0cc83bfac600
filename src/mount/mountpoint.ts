// The three forms of MOUNTPOINT: a directory, a new name in a directory, or an existing file.
//
// Called once a start, before anything is mounted. Removes what a killed process left mounted there,
// and refuses to mount where a FUSE file system is alive.

import { open, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { detach } from './detach.js';
import { MountError } from './errors.js';
import { findMount, type MountEntry, readMountTable } from './mount-table.js';
import { answers } from './probe.js';

/** The name of the file in a mounted directory, when none is given. */
const DEFAULT_NAME = 'nbd';

/** Dead mounts, one over the other, that are removed before giving up. */
const DEEPEST_PILE = 8;

const O_PATH = 0o10000000;

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

/** `dead`: on a mount whose server is gone. `hidden`: not for us to look at. */
type Kind = 'directory' | 'file' | 'other' | 'missing' | 'dead' | 'hidden';

const KIND_OF_ERROR: Readonly<Record<string, Kind>> = {
  ENOENT: 'missing',
  ENOTDIR: 'missing',
  ENOTCONN: 'dead',
  ECONNABORTED: 'dead',
  EACCES: 'hidden',
};

const isFuse = ({ type }: MountEntry): boolean => /^fuse(\.|$)/.test(type);

/** Refuses a path in a FUSE file system that does not answer; asks nothing of others, which may take long. */
async function refuseFrozen(path: string): Promise<void> {
  const table = readMountTable();
  const around = table.findLast((entry) => isFuse(entry) && `${path}/`.startsWith(`${entry.path}/`));
  if (around === undefined || (await answers(path))) return;
  const what = `${around.source} (${around.type}), which is mounted at ${around.path}, does not answer`;
  throw new MountError(`mountpoint ${path}: ${what}; unmount it first: fusermount3 -u -z ${around.path}`);
}

async function kindOf(path: string): Promise<Kind> {
  await refuseFrozen(path);
  try {
    const found = await stat(path);
    return found.isDirectory() ? 'directory' : found.isFile() ? 'file' : 'other';
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (Object.hasOwn(KIND_OF_ERROR, code)) return KIND_OF_ERROR[code];
    throw new MountError(`mountpoint ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/**
 * A path without symbolic links; undefined when it cannot be reached. Asks no file system that is
 * mounted at the path itself, so that it works for a dead one.
 */
async function realPathOf(path: string): Promise<string | undefined> {
  try {
    const handle = await open(path, O_PATH);
    try {
      return await readlink(`/proc/self/fd/${handle.fd}`);
    } finally {
      await handle.close();
    }
  } catch {
    return undefined;
  }
}

/** The FUSE mount at a path itself, if there is one. */
async function fuseMountAt(path: string): Promise<MountEntry | undefined> {
  const real = await realPathOf(path);
  const entry = real === undefined ? undefined : findMount(real);
  return entry !== undefined && isFuse(entry) ? entry : undefined;
}

/** Removes the dead mount at `path`, or at the folder that it is in. Returns a line for the user. */
async function removeDead(path: string, text: string): Promise<string> {
  const entry = (await fuseMountAt(path)) ?? (await fuseMountAt(dirname(path)));
  if (entry === undefined) {
    throw new MountError(
      `mountpoint ${text}: it is on a file system whose server is gone; unmount that first`,
    );
  }
  const what = `the dead mount of ${entry.source} (${entry.type}) at ${entry.path}`;
  try {
    await detach(entry.path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new MountError(
      `mountpoint ${text}: ${what} is in the way: ${why}; ask its owner or root to unmount it`,
    );
  }
  const who = entry.type === 'fuse.nbdfuse' ? 'an nbdfuse' : `${entry.source} (${entry.type})`;
  return `${entry.path}: removed the mount that ${who} which did not end in order had left there`;
}

/** What is at a path once dead mounts are out of the way. */
async function clearedKind(path: string, text: string, notices: string[]): Promise<Kind> {
  for (let depth = 0; ; depth++) {
    const kind = await kindOf(path);
    if (kind !== 'dead') return kind;
    if (depth === DEEPEST_PILE) throw new MountError(`mountpoint ${text}: too many dead mounts lie there`);
    notices.push(await removeDead(path, text));
  }
}

/** Refuses a path over which a FUSE file system that is alive is mounted. */
async function refuseBusy(path: string, text: string): Promise<void> {
  const entry = await fuseMountAt(path);
  if (entry === undefined) return;
  const what = `${entry.source} (${entry.type}) is mounted there already`;
  throw new MountError(`mountpoint ${text}: ${what}; unmount it first: fusermount3 -u ${entry.path}`);
}

/** Refuses a file that another nbdfuse serves: the user named it to create it. */
async function refuseServed(path: string, text: string): Promise<void> {
  const entry = await fuseMountAt(dirname(path));
  if (entry?.type === 'fuse.nbdfuse') await refuseBusy(dirname(path), text);
}

/** Finds out what MOUNTPOINT means. @throws MountError when it cannot be mounted over */
export async function resolveMountpoint(text: string): Promise<Mountpoint> {
  if (text === '') throw new MountError('mountpoint: its name is empty; give a directory or a file');
  const path = resolve(text);
  const notices: string[] = [];
  const kind = await clearedKind(path, text, notices);
  if (kind === 'missing') return inFolder(path, text, notices);
  if (kind === 'file' && text.endsWith('/'))
    throw new MountError(`mountpoint ${text}: ${text} is not a directory`);
  await refuseBusy(path, text);
  await refuseServed(path, text);
  if (kind === 'hidden') {
    throw new MountError(`mountpoint ${text}: permission denied; use a directory of your own`);
  }
  const real = await realPathOf(path);
  if (real === undefined || (kind !== 'directory' && kind !== 'file')) {
    throw new MountError(`mountpoint ${text}: it is neither a directory nor a regular file`);
  }
  const filename = kind === 'directory' ? DEFAULT_NAME : '';
  return { kind, path: real, filename, text, notice: notices.join('; ') || undefined };
}

async function inFolder(path: string, text: string, notices: string[]): Promise<Mountpoint> {
  const folder = dirname(path);
  const kind = await clearedKind(folder, text, notices);
  const [wanted, found] = text.endsWith('/') ? [text, await kindOf(path)] : [dirname(text), kind];
  if (found === 'missing') {
    throw new MountError(
      `mountpoint ${text}: there is no directory ${wanted}; make it first: mkdir -p ${wanted}`,
    );
  }
  const real = await realPathOf(folder);
  if (real === undefined || found !== 'directory') {
    throw new MountError(`mountpoint ${text}: ${wanted} is not a directory`);
  }
  await refuseBusy(folder, text);
  const filename = basename(path);
  return { kind: 'directory', path: real, filename, text, notice: notices.join('; ') || undefined };
}

/** Refuses what names a file: all of its files have names already. @throws MountError */
export async function checkDirectory({ kind, path, text }: Mountpoint): Promise<void> {
  const real = await realpath(text).catch(() => undefined);
  if (kind === 'directory' && real === path) return;
  throw new MountError(`mountpoint ${text}: --all needs a directory; make it first: mkdir -p ${text}`);
}
