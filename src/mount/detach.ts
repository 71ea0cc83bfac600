// Unmounts, with the programs that may: umount as root, fusermount3 as other users.
//
// The kernel writes out its cache of a file at close(2) and munmap(2), which keep the mount busy: umount2(2) itself finds
// nothing to write. It may still wait, for an answer of this very process, or for another program's sync(2). So a child
// process calls it, for which we can wait without blocking, and which we can leave behind. The child gets the place of
// the mount as a descriptor, after a check that this mount is the visible one there.

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

async function attempt({ directory, name }: Place, { lazy, late }: UnmountOptions): Promise<Outcome> {
  const path = pathThrough(INHERITED, name);
  const options = { inherited: [directory], late };
  // -c: umount must not canonicalize the path.
  const umount = (): Promise<Outcome> =>
    runProgram(['umount', '-i', '-c', ...(lazy ? ['-l'] : []), '--'], path, options);
  if (process.geteuid?.() === 0) return umount();
  const helper = await runProgram(['fusermount3', '-u', ...(lazy ? ['-z'] : []), '--'], path, options);
  if (helper.status === 0 || helper.late || BUSY.test(helper.errorText)) return helper;
  // In a user namespace we may have used mount(2), of which the helper knows nothing.
  const other = await umount();
  return other.status === 0 || BUSY.test(other.errorText) ? other : helper;
}

interface UnmountOptions {
  readonly lazy: boolean;
  /** Ends the wait for the program. */
  readonly late?: AbortSignal | undefined;
}

/** Unmounts a mount, wherever it is now. @throws MountError, with EBUSY when it is in use or covered */
async function unmountBy(mount: MountEntry, options: UnmountOptions): Promise<void> {
  const now = findAgain(mount);
  if (now === undefined) return;
  const { path } = now;
  const outcome = await atPlace(path, async (place) => {
    const isHere = (await place.mountId()) === mount.id;
    return isHere ? attempt(place, options) : undefined;
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
  if (outcome.late) {
    throw new MountError(
      `cannot unmount ${path}: ${outcome.command} does not end; fuser -vm ${path} shows which programs use it; ` +
        `to detach it from them: fusermount3 -u -z ${path}`,
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

/**
 * Unmounts a mount that nobody uses; the kernel has written out its cache then.
 * @param late ends the wait; the mount may be gone then, although the program has not ended
 * @throws MountError, with EBUSY when it is in use or covered
 */
export function unmount(mount: MountEntry, late?: AbortSignal): Promise<void> {
  return unmountBy(mount, { lazy: false, late });
}

/** Detaches a mount from the tree; it ends with its last user. @throws MountError, with EBUSY when it is covered */
export function detach(mount: MountEntry): Promise<void> {
  return unmountBy(mount, { lazy: true });
}
