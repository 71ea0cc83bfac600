// --unmount: unmounts in order, and returns when everything is written and the process has gone.
//
// Called by main.ts. Unmounting sends what the kernel holds; the serving process then flushes, leaves
// the server in order, and ends, which is what is waited for.

import { realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { unmount } from '../mount/detach.js';
import { MountError } from '../mount/errors.js';
import { findMount } from '../mount/mount-table.js';
import { printable } from '../nbd/text.js';
import { EBUSY } from '../os/errno.js';
import { mountedFiles } from './mounted.js';

/** Milliseconds between two looks at the process, which is not our child. */
const PERIOD = 20;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The process that serves a mount; undefined where that cannot be asked. */
async function serverOf(mountpoint: string): Promise<number | undefined> {
  return mountedFiles(mountpoint).then(
    ([file]) => file.status.pid,
    () => undefined,
  );
}

/** Unmounts MOUNTPOINT, a directory or a file. @throws MountError, Error: one line each */
export async function unmountAndWait(mountpoint: string): Promise<void> {
  const path = await realpath(mountpoint).catch(() => resolve(mountpoint));
  // As it was typed when it was mounted: DIR, DIR/FILENAME or a file.
  const mounted = findMount(path) ?? findMount(dirname(path));
  if (mounted === undefined || !mounted.type.startsWith('fuse'))
    throw new Error(`nothing of nbdfuse is mounted at ${printable(mountpoint)}`);
  const pid = await serverOf(mountpoint);
  try {
    await unmount(mounted.path);
  } catch (error) {
    if (!(error instanceof MountError) || error.errno !== EBUSY) throw error;
    throw new MountError(`${error.message}; fuser -vm ${printable(mountpoint)} shows by whom`, EBUSY);
  }
  while (pid !== undefined && isAlive(pid)) await setTimeout(PERIOD);
}
