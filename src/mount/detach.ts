// Unmounting, by the programs that may: umount as root, fusermount3 as anybody.
//
// umount2(2) waits for what the kernel still has to write, which this very process must serve, so it
// is left to a child process.

import { EBUSY, ETIMEDOUT } from '../os/errno.js';
import { MountError } from './errors.js';
import { findMount } from './mount-table.js';
import { type Outcome, runProgram } from './programs.js';

const isRoot = (): boolean => process.geteuid?.() === 0;

async function attempt(path: string, lazy: boolean): Promise<Outcome> {
  const fusermount = await (isRoot()
    ? runProgram('umount', ['-i', ...(lazy ? ['-l'] : []), '--', path])
    : runProgram('fusermount3', ['-u', ...(lazy ? ['-z'] : []), '--', path]));
  if (fusermount.status === 0 || isRoot()) return fusermount;
  // In a user namespace of our own, mount(2) made it and umount may end it.
  const umount = await runProgram('umount', ['-i', ...(lazy ? ['-l'] : []), '--', path]);
  return umount.status === 0 ? umount : fusermount;
}

async function unmountBy(path: string, lazy: boolean): Promise<void> {
  const outcome = await attempt(path, lazy);
  if (outcome.status === 0 || (await findMount(path)) === undefined) return;
  const busy = /busy/i.test(outcome.errorText);
  const why = outcome.missing ? 'no fusermount3: apt-get install fuse3' : outcome.errorText.split('\n')[0];
  throw new MountError(`unmounting ${path}: ${why || 'it is still mounted'}`, busy ? EBUSY : ETIMEDOUT);
}

/** Unmounts; what the kernel holds is written first. @throws MountError, with EBUSY when it is in use */
export function unmount(path: string): Promise<void> {
  return unmountBy(path, false);
}

/** Takes the mount out of the tree at once; it ends when its last user does. @throws MountError */
export function detach(path: string): Promise<void> {
  return unmountBy(path, true);
}
