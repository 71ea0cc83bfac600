// --unmount: unmounts, and returns when everything is written and the serving process has ended.
//
// Called by main.ts. A mount that nobody uses has nothing in the kernel's cache: programs wait in close(2) and munmap(2)
// until the server has it. After unmounting, the serving process flushes, disconnects, and ends. This command waits for
// that end. All together ends in time.

import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { EBUSY } from '../../constants/errno.js';
import { currentPath, mountIdOf, openPath, using } from '../../linux/path.js';
import { exitStatusOf, openPidfd } from '../../linux/pidfd.js';
import { isRunning, type RunningProcess } from '../../linux/process.js';
import { shellWord } from '../../linux/shell.js';
import { closeDescriptor } from '../../linux/socket.js';
import { unmount } from '../../mount/detach.js';
import { MountError } from '../../mount/errors.js';
import { isFuse, type MountEntry, mountOf } from '../../mount/mount-table.js';
import { type OtherPlace, OtherPlaces } from '../../mount/other-places.js';
import { printable } from '../../nbd/text.js';
import { Deadline } from '../../session/deadline.js';
import { announceWait } from '../waiting.js';
import { mountedFiles, refuseFrozen } from './mounted.js';
import { serverOf } from './serving-process.js';

/** Milliseconds between two checks of the process, which is not our child. */
const PERIOD = 20;

/** Milliseconds between two searches for other places of the mount. */
const LOOK_PERIOD = 1000;

/** Milliseconds for everything: an orderly stop of the process takes at most ten seconds. The systemd unit grants more. */
export const TIME = 30_000;

/** Milliseconds in which the parent of an ended process takes note of that. */
const REAP_TIME = 500;

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

/** Unmounts before the deadline. @throws MountError, with the next step when the mount is in use */
async function unmountBefore(deadline: Deadline, mount: MountEntry, shown: string): Promise<void> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), deadline.remaining);
  try {
    await unmount(mount, late.signal);
  } catch (error) {
    if (!(error instanceof MountError) || error.errno !== EBUSY) throw error;
    throw new MountError(`${error.message}; fuser -vm ${shown} shows which programs use it`, EBUSY);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Unmounts MOUNTPOINT, a directory or a file.
 * @param announce says what a long wait is for
 * @throws MountError, Error: one line each
 */
export async function unmountAndWait(mountpoint: string, announce: (text: string) => void): Promise<void> {
  const deadline = new Deadline(TIME);
  const { mount, server } = await find(mountpoint);
  const shown = printable(mountpoint);
  const places = new OtherPlaces(mount);
  const ending = server === undefined || server === 'hidden' ? undefined : new Ending(server);
  try {
    await announceWait(unmountBefore(deadline, mount, shown), () =>
      announce(`waiting until the kernel has unmounted ${shown}; Ctrl-C ends the wait`),
    );
    if (server === 'hidden') {
      throw new Error(
        `${shown} is unmounted, but its nbdfuse, in another PID namespace, may still be writing; ` +
          'to wait for it, use --unmount in its container',
      );
    }
    if (ending === undefined) return;
    await announceWait(ending.wait(deadline, places, shown), () =>
      announce(`${shown} is unmounted; waiting until process ${ending.process.pid} has ended`),
    );
  } finally {
    ending?.close();
  }
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

/** The end of a process that is not our child. */
class Ending {
  readonly process: RunningProcess;
  readonly #descriptor: number;

  constructor(server: RunningProcess) {
    this.process = server;
    this.#descriptor = openPidfd(server.pid);
  }

  /**
   * Resolves when the process has ended in order.
   * @param places of its mount
   * @throws Error when it does not end, or with an error
   */
  async wait(deadline: Deadline, places: OtherPlaces, shown: string): Promise<void> {
    const { pid } = this.process;
    let nextLook = performance.now() + LOOK_PERIOD;
    while (isRunning(this.process)) {
      const now = performance.now();
      if (now > nextLook) {
        nextLook = now + LOOK_PERIOD;
        refuseOtherPlace(places.left(), shown, this.process);
      }
      if (deadline.remaining === 0) {
        const what = `${shown} is unmounted, but process ${pid} has not ended`;
        throw new Error(`${what} in ${TIME / 1000} s; its messages say what it waits for`);
      }
      await delay(PERIOD);
    }
    const status = await this.#status();
    if (status === undefined || status === 0) return;
    throw new Error(
      `${shown} is unmounted, but process ${pid} ended with status ${status}: the server may not have all data; ` +
        'its messages say why',
    );
  }

  /** The exit status; undefined if the kernel does not tell, or its parent does not wait for it. */
  async #status(): Promise<number | undefined> {
    if (this.#descriptor < 0) return undefined;
    const limit = new Deadline(REAP_TIME);
    let status = exitStatusOf(this.#descriptor);
    while (status === 'pending' && limit.remaining > 0) {
      await delay(PERIOD);
      status = exitStatusOf(this.#descriptor);
    }
    return status === 'pending' ? undefined : status;
  }

  close(): void {
    if (this.#descriptor >= 0) closeDescriptor(this.#descriptor);
  }
}
