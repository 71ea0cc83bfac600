// --unmount: unmounts, and returns when everything is written and the serving process has ended.
//
// Called by main.ts. Unmounting makes the kernel write out its cache; the serving process then flushes, disconnects,
// and ends. This command waits for that end.

import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { EBUSY } from '../../constants/errno.js';
import { currentPath, mountIdOf, openPath, using } from '../../linux/path.js';
import { isRunning, type RunningProcess } from '../../linux/process.js';
import { shellWord } from '../../linux/shell.js';
import { unmount } from '../../mount/detach.js';
import { MountError } from '../../mount/errors.js';
import { isFuse, mountOf } from '../../mount/mount-table.js';
import { type OtherPlace, OtherPlaces } from '../../mount/other-places.js';
import { printable } from '../../nbd/text.js';
import { announceWait } from '../waiting.js';
import { mountedFiles, refuseFrozen } from './mounted.js';
import { serverOf } from './serving-process.js';

/** Milliseconds between two checks of the process, which is not our child. */
const PERIOD = 20;

/** Milliseconds between two searches for other places of the mount. */
const LOOK_PERIOD = 1000;

/** Milliseconds to wait for the process: an orderly stop takes at most ten seconds. */
const PATIENCE = 30_000;

/** Finds the mount at MOUNTPOINT, typed in any form that mounting accepts: DIR, DIR/FILENAME or a file. */
async function find(mountpoint: string) {
  await refuseFrozen(mountpoint);
  const directory = dirname(mountpoint);
  for (const path of [mountpoint, directory]) {
    const descriptor = await openPath(path, { follow: true }).catch(() => undefined);
    if (descriptor === undefined) continue;
    const found = await using(descriptor, async (through) => {
      const mount = mountOf(mountIdOf(descriptor));
      if (mount === undefined || !isFuse(mount)) return undefined;
      const isRoot = mount.path === currentPath(descriptor);
      const [file] = await mountedFiles(through).catch(() => []);
      // Anything else may be a file deep in some other file system.
      const isFile =
        path !== directory && file !== undefined && mount.path === dirname(currentPath(descriptor));
      return isRoot || isFile ? { mount, server: serverOf(file?.status, mount) } : undefined;
    });
    if (found !== undefined) return found;
  }
  throw new Error(`no nbdfuse file system is mounted at ${printable(mountpoint)}`);
}

/** Unmounts MOUNTPOINT, a directory or a file. @param announce says what a long wait is for @throws MountError, Error: one line each */
export async function unmountAndWait(mountpoint: string, announce: (text: string) => void): Promise<void> {
  const { mount, server } = await find(mountpoint);
  const shown = printable(mountpoint);
  const places = new OtherPlaces(mount);
  try {
    await announceWait(unmount(mount), () =>
      announce(
        `waiting until the server has all data of ${shown}; Ctrl-C ends the wait, and leaves it mounted`,
      ),
    );
  } catch (error) {
    if (!(error instanceof MountError) || error.errno !== EBUSY) throw error;
    throw new MountError(`${error.message}; fuser -vm ${shown} shows which programs use it`, EBUSY);
  }
  if (server === 'hidden') {
    throw new Error(
      `${shown} is unmounted, but its nbdfuse, in another PID namespace, may still be writing; ` +
        'to wait for it, use --unmount in its container',
    );
  }
  if (server === undefined) return;
  await announceWait(ended(server, places, shown), () =>
    announce(`${shown} is unmounted; waiting until process ${server.pid} has ended`),
  );
}

/** @throws Error when the file system is still mounted at another place: its process does not end */
function refuseOtherPlace([other]: readonly OtherPlace[], shown: string, { pid }: RunningProcess): void {
  if (other === undefined) return;
  const path = printable(other.path);
  const { process: holder } = other;
  const at = holder && ` in the mount namespace of process ${holder.pid} (${printable(holder.name)})`;
  const word = shellWord(other.path);
  // No command to enter the namespace: its umount(8) may be a program of another user.
  const next = holder ? 'end that process' : `unmount that, too: nbdfuse --unmount ${word}`;
  throw new Error(
    `${shown} is unmounted, but process ${pid} still serves the mount at ${path}${at ?? ''}; ${next}`,
  );
}

/**
 * Resolves when a process has ended, which is not our child.
 * @param places of its mount
 * @throws Error when it does not end
 */
async function ended(server: RunningProcess, places: OtherPlaces, shown: string): Promise<void> {
  const start = performance.now();
  let nextLook = start + LOOK_PERIOD;
  while (isRunning(server)) {
    const now = performance.now();
    if (now > nextLook) {
      nextLook = now + LOOK_PERIOD;
      refuseOtherPlace(places.left(), shown, server);
    }
    if (now > start + PATIENCE) {
      const what = `${shown} is unmounted, but process ${server.pid} has not ended`;
      throw new Error(`${what} in ${PATIENCE / 1000} s; its messages say what it waits for`);
    }
    await setTimeout(PERIOD);
  }
}
