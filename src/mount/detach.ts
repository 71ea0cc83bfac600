// Unmounting, by the programs that may: umount as root, fusermount3 as anybody.
//
// umount2(2) waits for what the kernel still has to write, which this very process must serve, so it
// is left to a child process: that can be waited for without blocking, and ends when we do.

import { EBUSY } from '../os/errno.js';
import { MountError } from './errors.js';
import { findMount } from './mount-table.js';
import { type Outcome, runProgram } from './programs.js';

/** What both programs say of a mount that is in use. */
const BUSY = /target is busy|resource busy/i;

async function attempt(path: string, lazy: boolean): Promise<Outcome> {
  const umount = (): Promise<Outcome> => runProgram('umount', ['-i', ...(lazy ? ['-l'] : []), '--', path]);
  if (process.geteuid?.() === 0) return umount();
  const helper = await runProgram('fusermount3', ['-u', ...(lazy ? ['-z'] : []), '--', path]);
  if (helper.status === 0 || BUSY.test(helper.errorText)) return helper;
  // In a user namespace mount(2) may have made it, of which the helper knows nothing.
  const other = await umount();
  return other.status === 0 || BUSY.test(other.errorText) ? other : helper;
}

async function unmountBy(path: string, lazy: boolean): Promise<void> {
  const outcome = await attempt(path, lazy);
  if (outcome.status === 0 || findMount(path) === undefined) return;
  if (outcome.missing) {
    throw new MountError(`unmounting ${path}: there is no ${outcome.command}; install it: ${outcome.remedy}`);
  }
  // `umount: PATH: target is busy.` or `fusermount3: failed to unmount PATH: …`: the path is in our words.
  const [line] = outcome.errorText.replace(/^(umount|fusermount3): /, '').split('\n');
  const why = line.replace(`failed to unmount ${path}: `, '').replace(`${path}: `, '').replace(/\.$/, '');
  throw new MountError(
    `unmounting ${path}: ${why || 'it is still mounted'}`,
    BUSY.test(outcome.errorText) ? EBUSY : undefined,
  );
}

/**
 * Unmounts the uppermost mount at a path; what the kernel holds is written first.
 * @throws MountError, with EBUSY when it is in use
 */
export function unmount(path: string): Promise<void> {
  return unmountBy(path, false);
}

/** Takes the uppermost mount at a path out of the tree; it ends when its last user does. @throws MountError */
export function detach(path: string): Promise<void> {
  return unmountBy(path, true);
}
