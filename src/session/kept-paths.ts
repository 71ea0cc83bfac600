// Keeps the paths that a session needs after the mount: with --daemon it leaves the current directory, and its own mount
// may cover them.
//
// Called by start.ts when the mountpoint is known.

import { tmpdir } from 'node:os';
import { isCovered, keepPath, keptSearchPath } from '../linux/kept-path.js';
import { currentDirectory } from '../linux/path.js';
import { MountError } from '../mount/errors.js';
import type { Mountpoint } from '../mount/mountpoint.js';
import { printable } from '../nbd/text.js';
import type { Endpoint, Target } from '../transport/target.js';
import { defaultDirectories } from '../transport/tls-credentials.js';
import type { Settings } from './settings.js';

/** The paths of an endpoint. */
function pathsOf({ target, tls }: Endpoint): readonly string[] {
  const socket = target.kind === 'unix' && !target.path.startsWith('\0') ? [target.path] : [];
  if (tls === undefined) return socket;
  const certificates = tls.certificates === undefined ? defaultDirectories() : [tls.certificates];
  return [...socket, ...certificates, ...(tls.pskFile === undefined ? [] : [tls.pskFile])];
}

/** Whether a word of a command line is, or holds, a path that `covered` covers. Pure. */
export function namesCovered(word: string, covered: string): boolean {
  for (let at = word.indexOf(covered); at >= 0; at = word.indexOf(covered, at + 1)) {
    const after = word[at + covered.length] ?? '/';
    if (!/[\w.-]/.test(word[at - 1] ?? '=') && !/[\w.-]/.test(after)) return true;
  }
  return false;
}

/** @throws MountError when a server that may be started again is in, or names, a directory that will be covered */
function refuseCoveredServer(target: Target, covered: string, text: string): void {
  if (target.kind !== 'command' && target.kind !== 'socket-activation') return;
  const named = [...target.argv, tmpdir()].find((one) => namesCovered(one, covered));
  // Its words may be relative paths.
  const what = isCovered(currentDirectory(), covered) ? 'the current directory' : named;
  if (what === undefined) return;
  throw new MountError(
    `mountpoint ${text}: it covers ${printable(what, 300)}, without which the server cannot be started again; ` +
      'use a directory of its own',
  );
}

/** See the file's head. @throws MountError when that is not possible */
export function keepPaths(settings: Settings, endpoint: Endpoint, mountpoint: Mountpoint): void {
  const covered = mountpoint.kind === 'directory' ? mountpoint.path : undefined;
  if (covered !== undefined && (settings.restart || settings.all))
    refuseCoveredServer(endpoint.target, covered, mountpoint.text);
  const { pidfile, metrics } = settings;
  const made = [pidfile, metrics?.kind === 'unix' ? metrics.path : undefined].filter(
    (one) => one !== undefined,
  );
  const paths = [...pathsOf(endpoint), ...made, '.'];
  for (const path of paths) keepPath(path, covered);
  const { PATH } = process.env;
  if (PATH !== undefined) process.env.PATH = keptSearchPath(PATH, covered);
}
