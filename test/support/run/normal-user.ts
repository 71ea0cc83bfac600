// A user without privileges, for tests and measurements of a normal user's mounts. They run as root.

import { chmodSync, chownSync } from 'node:fs';
import { requirePrograms, requireRoot } from './requires.js';
import type { Scope } from './scope.js';

/** `nobody` of Debian, and its group. */
export const NOBODY = 65534;

/** The command prefix that runs a command as a normal user. */
export const AS_NORMAL_USER = [
  'setpriv',
  `--reuid=${NOBODY}`,
  `--regid=${NOBODY}`,
  '--clear-groups',
] as const;

/**
 * Gives the scope's folder to the normal user, and opens /dev/fuse to everybody, as it is on an ordinary
 * system. The device stays open to everybody, because concurrent tests may need it.
 * @throws Error when not root
 */
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
