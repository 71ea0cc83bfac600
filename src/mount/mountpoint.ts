// The three forms of MOUNTPOINT: a directory, a new name in a directory, or an existing file.
//
// Called once per start, before mounting. Removes the dead mount of a killed process, and refuses to mount over a live
// FUSE file system.

import { lstat, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { currentDirectory, currentPath, mountIdOf, openPath, using } from '../linux/path.js';
import { isUtf8Path, pathBytes } from '../linux/path-text.js';
import { shellWord } from '../linux/shell.js';
import { detach } from './detach.js';
import { MountError, whyFailed } from './errors.js';
import { isFuse, type MountEntry, mountOf, OWN_TYPE, readMountTable } from './mount-table.js';
import { answers } from './probe.js';
import { refuseSystemPlace } from './system-places.js';
import { Target } from './target.js';

/** The name of the file in a mounted directory, when none is given; with several files, of the default export. */
export const DEFAULT_NAME = 'nbd';

/** Dead mounts, one over the other, that are removed before giving up. */
const DEEPEST_PILE = 8;

/** A resolved mountpoint. */
export interface Mountpoint {
  /** The kind of the target. */
  readonly kind: 'directory' | 'file';
  /** Absolute, without symbolic links: for messages. */
  readonly path: string;
  /** The directory or file to mount over; the caller of `resolveMountpoint` closes it. */
  readonly target: Target;
  /** Name of the file in the directory; empty when the file is the mountpoint. */
  readonly filename: string;
  /** As the user wrote it. */
  readonly text: string;
  /** The file as the user would write it; of a directory with several files, the default one. */
  readonly label: string;
  /** A line for the user about removed dead mounts, if any. */
  readonly notice: string | undefined;
  /** A line for the user about files that the mount hides, if the name of a new file may be a mistake. */
  readonly hides: string | undefined;
}

/** `blocked`: below something that is no directory. `dead`: on a mount whose server is gone. `hidden`: permission denied. */
type Kind = 'directory' | 'file' | 'other' | 'missing' | 'blocked' | 'dead' | 'hidden';

const KIND_OF_ERROR: Readonly<Record<string, Kind>> = {
  ENOENT: 'missing',
  ENOTDIR: 'blocked',
  ENOTCONN: 'dead',
  ECONNABORTED: 'dead',
  EACCES: 'hidden',
};

/** The next step for errors whose text does not suggest one. */
const NEXT_STEPS: Readonly<Record<string, string>> = {
  ELOOP: '; a link there leads to itself: remove it, or name another directory',
  ENAMETOOLONG: '; Linux allows 255 bytes in a name, and 4095 in a path',
};

/** Refuses a path in a FUSE file system that does not answer. Does not probe other file systems, which may be slow. */
async function refuseFrozen(path: string): Promise<void> {
  const table = readMountTable();
  const whole = path.startsWith('/') ? resolve(path) : resolve(currentDirectory(), path);
  const around = table.findLast((entry) => isFuse(entry) && `${whole}/`.startsWith(`${entry.path}/`));
  if (around === undefined || (await answers(path))) return;
  const what = `${around.source} (${around.type}), which is mounted at ${around.path}, does not answer`;
  throw new MountError(`mountpoint ${path}: ${what}; unmount it first: fusermount3 -u -z ${around.path}`);
}

async function kindOf(path: string): Promise<Kind> {
  await refuseFrozen(path);
  try {
    const found = await stat(pathBytes(path));
    return found.isDirectory() ? 'directory' : found.isFile() ? 'file' : 'other';
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (Object.hasOwn(KIND_OF_ERROR, code)) return KIND_OF_ERROR[code];
    throw new MountError(`mountpoint ${path}: ${whyFailed(error)}${NEXT_STEPS[code] ?? ''}`);
  }
}

/** The FUSE mount whose root a descriptor is, if it is one. Accesses no file system. */
function fuseMountOf(descriptor: number): MountEntry | undefined {
  const entry = mountOf(mountIdOf(descriptor));
  return entry !== undefined && isFuse(entry) && entry.path === currentPath(descriptor) ? entry : undefined;
}

/** The FUSE mount at a path itself, if there is one. Works for a dead one, too. */
async function fuseMountAt(path: string): Promise<MountEntry | undefined> {
  const descriptor = await openPath(path, { follow: true }).catch(() => undefined);
  return descriptor === undefined ? undefined : using(descriptor, () => fuseMountOf(descriptor));
}

/** The dead FUSE mount at a path itself, checked through a descriptor, wherever the path leads later. */
async function deadMountAt(path: string): Promise<MountEntry | undefined> {
  const descriptor = await openPath(path, { follow: true }).catch(() => undefined);
  if (descriptor === undefined) return undefined;
  return using(descriptor, async (through) => {
    const entry = fuseMountOf(descriptor);
    return entry !== undefined && (await kindOf(through)) === 'dead' ? entry : undefined;
  });
}

/** Removes the dead mount at `path`, or at its parent directory. Returns a line for the user. */
async function removeDead(path: string, text: string): Promise<string> {
  const entry = (await deadMountAt(path)) ?? (await deadMountAt(dirname(path)));
  if (entry === undefined) {
    throw new MountError(
      `mountpoint ${text}: it is on a file system whose server is gone; unmount that first`,
    );
  }
  const what = `the dead mount of ${entry.source} (${entry.type}) at ${entry.path}`;
  try {
    await detach(entry);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new MountError(
      `mountpoint ${text}: ${what} is in the way: ${why}; ask its owner or root to unmount it`,
    );
  }
  const who = entry.type === OWN_TYPE ? 'an earlier nbdfuse' : `${entry.source} (${entry.type})`;
  return `${entry.path}: removed the stale mount that ${who} had left there`;
}

/** The kind of a path, after its dead mounts are removed. */
async function clearedKind(path: string, text: string, notices: string[]): Promise<Kind> {
  for (let depth = 0; ; depth++) {
    const kind = await kindOf(path);
    if (kind !== 'dead') return kind;
    if (depth === DEEPEST_PILE)
      throw new MountError(`mountpoint ${text}: too many dead mounts are stacked there`);
    notices.push(await removeDead(path, text));
  }
}

/** Refuses a live FUSE mount. */
function refuseMount(entry: MountEntry | undefined, text: string): void {
  if (entry === undefined) return;
  const what = `${entry.source} (${entry.type}) is mounted there already`;
  const unmount = entry.type === OWN_TYPE ? 'nbdfuse --unmount' : 'fusermount3 -u';
  throw new MountError(`mountpoint ${text}: ${what}; unmount it first: ${unmount} ${shellWord(entry.path)}`);
}

async function refuseBusy(path: string, text: string): Promise<void> {
  refuseMount(await fuseMountAt(path), text);
}

/** Opens the directory or file to mount over. @throws MountError when that is not possible */
async function openTarget(path: string, text: string): Promise<Target> {
  const target = await Target.open(path, text);
  try {
    refuseSystemPlace(target.path, text);
    // The path may lead elsewhere since it was checked.
    refuseMount(fuseMountOf(target.descriptor), text);
    await target.check();
    return target;
  } catch (error) {
    target.close();
    throw error;
  }
}

/** Refuses a file that another nbdfuse serves: the user named it to create it. */
async function refuseServed(path: string, text: string): Promise<void> {
  const directory = dirname(path);
  const entry = await fuseMountAt(directory);
  if (entry?.type === OWN_TYPE) await refuseBusy(directory, text);
}

/** Resolves MOUNTPOINT. @throws MountError when nothing can be mounted there */
export async function resolveMountpoint(text: string): Promise<Mountpoint> {
  if (text === '') throw new MountError('mountpoint: its name is empty; give a directory or a file');
  const notices: string[] = [];
  const kind = await clearedKind(text, text, notices);
  if (kind === 'missing' || kind === 'blocked') return inDirectory(text, notices);
  await refuseBusy(text, text);
  await refuseServed(text, text);
  if (kind === 'hidden') {
    throw new MountError(`mountpoint ${text}: permission denied; use a directory of your own`);
  }
  if (kind !== 'directory' && kind !== 'file') {
    throw new MountError(`mountpoint ${text}: it is neither a directory nor a regular file`);
  }
  const target = await openTarget(text, text);
  const filename = target.isDirectory ? DEFAULT_NAME : '';
  const label = filename === '' ? text : join(text, filename);
  return made(target, filename, { text, label, notices, hides: undefined });
}

/** The mountpoint, unless its target was replaced after the first check. */
function made(
  target: Target,
  filename: string,
  {
    notices,
    ...texts
  }: Pick<Mountpoint, 'text' | 'label' | 'hides'> & { readonly notices: readonly string[] },
): Mountpoint {
  const { isDirectory, isFile, path } = target;
  if (!isDirectory && !(isFile && filename === '')) {
    target.close();
    throw new MountError(`mountpoint ${texts.text}: it is neither a directory nor a regular file`);
  }
  const kind = isDirectory ? 'directory' : 'file';
  return { kind, path, target, filename, ...texts, notice: notices.join('; ') || undefined };
}

/** The directory and the name of a new file. As in libnbd's nbdfuse, a name needs its directory. @throws MountError */
async function splitNewName(text: string): Promise<{ directory: string; filename: string }> {
  const isLink = await lstat(pathBytes(text)).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
  if (isLink) {
    throw new MountError(
      `mountpoint ${text}: it is a symbolic link to something that does not exist; remove it, or create its target`,
    );
  }
  const slash = text.lastIndexOf('/');
  if (slash < 0) {
    throw new MountError(
      `mountpoint ${text}: there is no such directory or file; make it first: mkdir ${shellWord(text)}; ` +
        `or name a directory for the new file: DIR/${text}`,
    );
  }
  const filename = text.slice(slash + 1);
  if (!isUtf8Path(filename))
    throw new MountError(`mountpoint ${text}: the name of the new file is not UTF-8; use another name`);
  return { directory: text.slice(0, slash) || '/', filename };
}

/** DIR/FILENAME, where FILENAME does not exist. */
async function inDirectory(text: string, notices: string[]): Promise<Mountpoint> {
  const isName = !/(^|\/)\.{0,2}$/.test(text);
  const { directory, filename } = isName ? await splitNewName(text) : { directory: text, filename: '' };
  const kind = await clearedKind(directory, text, notices);
  if (kind === 'missing') {
    throw new MountError(
      `mountpoint ${text}: there is no directory ${directory}; make it first: mkdir -p ${shellWord(directory)}`,
    );
  }
  if (kind === 'hidden')
    throw new MountError(`mountpoint ${text}: permission denied; use a directory of your own`);
  if (kind !== 'directory') throw new MountError(`mountpoint ${text}: ${directory} is not a directory`);
  await refuseBusy(directory, text);
  const target = await openTarget(directory, text);
  const hides = (await target.hasFiles()) ? hidesFiles(target.path, text) : undefined;
  return made(target, filename, { text, label: text, notices, hides });
}

/** The user may have meant a directory that does not exist. */
function hidesFiles(directory: string, text: string): string {
  const shown = shellWord(directory);
  return (
    `mountpoint ${text}: the mount covers the directory ${shown} and hides its other files until you unmount it: ` +
    `nbdfuse --unmount ${shown}`
  );
}

/** Refuses a file name where `option` names the files itself. @throws MountError */
export function checkDirectory({ kind, label, text }: Mountpoint, option: string): void {
  if (kind === 'directory' && label !== text) return;
  throw new MountError(
    `mountpoint ${text}: ${option} needs a directory; make it first: mkdir -p ${shellWord(text)}`,
  );
}
