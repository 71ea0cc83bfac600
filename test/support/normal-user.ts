// A user without rights, for tests of what a normal user can do.
//
// Used by tests that run as root. /dev/fuse is opened to everybody, as it is on an ordinary
// system, and stays so: tests that run beside this one may need it.

import { chmodSync, chownSync } from 'node:fs';
import type { Scope } from './cleanup.js';
import { requirePrograms, requireRoot } from './requires.js';

/** `nobody` of Debian, and its group. */
const NOBODY = 65534;

/** The words in front of a command that is to run as a normal user. */
export const AS_NORMAL_USER = [
  'setpriv',
  `--reuid=${NOBODY}`,
  `--regid=${NOBODY}`,
  '--clear-groups',
] as const;

/** Gives the scope's folder to the normal user and opens /dev/fuse. @throws Error when not root */
export function admitNormalUser(scope: Scope): void {
  requireRoot();
  requirePrograms('setpriv', 'fusermount3');
  chmodSync('/dev/fuse', 0o666);
  chownSync(scope.folder, NOBODY, NOBODY);
}

/** Gives one of the scope's files to the normal user. */
export function giveToNormalUser(path: string): void {
  chownSync(path, NOBODY, NOBODY);
}
