// Unmounts, with the programs that may: umount as root, fusermount3 as other users.
//
// umount2(2) waits until the kernel has written out its cache, which this very process must serve. So a child process
// calls it: we can wait for that without blocking, and it ends when we do. The child gets the place of the mount as a
// descriptor, after a check that this mount is the visible one there.

import { basename } from 'node:path';
import { EBUSY } from '../constants/errno.js';
import { pathThrough } from '../linux/path.js';
import { MountError, whyFailed } from './errors.js';
import { findAgain, type MountEntry } from './mount-table.js';
import { atPlace, type Place } from './place.js';
import { type Outcome, runProgram } from './programs.js';

/** The message of both programs for a mount that is in use. */
const BUSY = /target is busy|resource busy/i;

/** The child's descriptor of the directory of the place. */
const INHERITED = 3;

async function attempt({ directory, name }: Place, lazy: boolean): Promise<Outcome> {
  const path = pathThrough(INHERITED, name);
  // -c: umount must not canonicalize the path.
  const umount = (): Promise<Outcome> =>
    runProgram(['umount', '-i', '-c', ...(lazy ? ['-l'] : []), '--'], path, [directory]);
  if (process.geteuid?.() === 0) return umount();
  const helper = await runProgram(['fusermount3', '-u', ...(lazy ? ['-z'] : []), '--'], path, [directory]);
  if (helper.status === 0 || BUSY.test(helper.errorText)) return helper;
  // In a user namespace we may have used mount(2), of which the helper knows nothing.
  const other = await umount();
  return other.status === 0 || BUSY.test(other.errorText) ? other : helper;
}

/** Unmounts a mount, wherever it is now. @throws MountError, with EBUSY when it is in use or covered */
async function unmountBy(mount: MountEntry, lazy: boolean): Promise<void> {
  const now = findAgain(mount);
  if (now === undefined) return;
  const { path } = now;
  const outcome = await atPlace(path, async (place) => {
    const isHere = (await place.mountId()) === mount.id;
    return isHere ? attempt(place, lazy) : undefined;
  }).catch((error: unknown) => {
    throw new MountError(`cannot unmount ${path}: ${whyFailed(error)}`);
  });
  if (outcome?.status === 0 || findAgain(mount) === undefined) return;
  if (outcome === undefined) {
    throw new MountError(`cannot unmount ${path}: another mount covers it; unmount that first`, EBUSY);
  }
  if (outcome.missing) {
    throw new MountError(
      `cannot unmount ${path}: there is no ${outcome.command}; install it: ${outcome.remedy}`,
    );
  }
  // `umount: PATH: target is busy.` or `fusermount3: failed to unmount PATH: …`: our message has the path already.
  const [line] = outcome.errorText.replace(/^(umount|fusermount3): /, '').split('\n');
  const why = [`failed to unmount ${path}: `, `${pathThrough(INHERITED, basename(path))}: `, `${path}: `]
    .reduce((text, prefix) => text.replace(prefix, ''), line)
    .replace(/\.$/, '');
  throw new MountError(
    `cannot unmount ${path}: ${why || 'it is still mounted'}`,
    BUSY.test(outcome.errorText) ? EBUSY : undefined,
  );
}

/** Unmounts; the kernel writes out its cache first. @throws MountError, with EBUSY when it is in use or covered */
export function unmount(mount: MountEntry): Promise<void> {
  return unmountBy(mount, false);
}

/** Detaches a mount from the tree; it ends with its last user. @throws MountError, with EBUSY when it is covered */
export function detach(mount: MountEntry): Promise<void> {
  return unmountBy(mount, true);
}
