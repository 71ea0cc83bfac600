// All mounts of nbdfuse: those of this user, or for root those of every user.
//
// Used by --list-mounts. Another user's mount may answer anything, or never: a child that runs as that user reads it,
// which also is the only one that the kernel lets in without allow_other.

import { spawn } from 'node:child_process';
import { buffer } from 'node:stream/consumers';
import { mountIdOf, openPath, using } from '../../linux/path.js';
import { wordsWithPath } from '../../linux/path-text.js';
import { type MountEntry, OWN_TYPE, readMountTable } from '../../mount/mount-table.js';
import { PATIENCE } from '../../mount/probe.js';
import { renamedMounts } from '../../mount/renamed.js';
import { Semaphore } from '../../session/semaphore.js';
import { reasonOf } from '../../transport/errors.js';
import { isObject } from '../../worker/contract/former-names.js';
import { type MountedFile, mountedFiles, refuseFrozen } from './mounted.js';
import { parseStatus } from './status-shape.js';

/** A mount, with its files or the reason why they are not known. */
export type SeenMount =
  | { readonly mountpoint: string; readonly files: readonly MountedFile[] }
  | { readonly mountpoint: string; readonly why: string };

/** Mounts that are read at once: each takes a process. */
const MOST_AT_ONCE = 8;

/** Milliseconds for a child to read the status of another user's mount. */
const CHILD_TIME = PATIENCE + 2000;
/** Bytes of its output. */
const MAX_OUTPUT = 16 * 1024 * 1024;

/** The files in the output of `--status --json`. Undefined for any other text. */
export function filesIn(json: string): readonly MountedFile[] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return undefined;
  }
  if (!isObject(parsed) || !Array.isArray(parsed.files)) return undefined;
  const files: MountedFile[] = [];
  for (const one of parsed.files as unknown[]) {
    const status = isObject(one) ? parseStatus(JSON.stringify(one)) : undefined;
    if (status === undefined || !isObject(one) || typeof one.path !== 'string') return undefined;
    files.push({ path: one.path, status });
  }
  return files;
}

/** The output of `nbdfuse --status --json` on a mount, run as its user. @throws Error */
async function statusAsUser({ path, userId, groupId }: MountEntry): Promise<string> {
  const [, script = ''] = process.argv;
  const [file, ...words] = wordsWithPath(
    [process.execPath, ...process.execArgv, script, '--status', '--json'],
    path,
  );
  // In a session of its own, without our terminal and environment, which the user could abuse.
  const child = spawn(file, words, {
    uid: userId,
    gid: groupId,
    detached: true,
    cwd: '/',
    env: {},
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: CHILD_TIME,
    killSignal: 'SIGKILL',
  });
  let length = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > MAX_OUTPUT) child.kill('SIGKILL');
  });
  const started = new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
  const [output] = await Promise.all([buffer(child.stdout), started]);
  return output.toString();
}

async function filesOf(entry: MountEntry): Promise<readonly MountedFile[] | undefined> {
  if (entry.userId !== process.geteuid?.()) {
    const files = filesIn(await statusAsUser(entry));
    if (files === undefined) throw new Error('its user cannot read its status');
    return files;
  }
  await refuseFrozen(entry.path);
  const descriptor = await openPath(entry.path, { follow: true });
  const isCovered = await using(descriptor, () => mountIdOf(descriptor) !== entry.id);
  return isCovered ? undefined : mountedFiles(entry.path);
}

/** Undefined for a mount that another one covers. */
async function look(entry: MountEntry): Promise<SeenMount | undefined> {
  const mountpoint = entry.path;
  try {
    const files = await filesOf(entry);
    return files && { mountpoint, files };
  } catch (error) {
    const gone = reasonOf(error);
    return { mountpoint, why: gone.startsWith(`${mountpoint}: `) ? gone.slice(mountpoint.length + 2) : gone };
  }
}

/** The mounts in the order of the mount table. A mount that is there twice counts once. */
export async function allMounts(): Promise<readonly SeenMount[]> {
  const user = process.geteuid?.();
  const devices = new Set<string>();
  const table = readMountTable();
  const renamed = renamedMounts(table);
  const entries = table.filter((entry) => {
    const { type, userId, device } = entry;
    const isOurs = type === OWN_TYPE || renamed.includes(entry);
    const isNew = isOurs && (user === 0 || userId === user) && !devices.has(device);
    if (isNew) devices.add(device);
    return isNew;
  });
  const semaphore = new Semaphore(MOST_AT_ONCE);
  const seen = await Promise.all(entries.map((entry) => semaphore.take(() => look(entry))));
  return seen.filter((one) => one !== undefined);
}
