// The directories that must not be covered: programs, and nbdfuse itself, need the files in them. Pure.

import { MountError } from './errors.js';

/** Kernel interfaces: nothing below them is a place for a disk. */
const KERNEL = ['/proc', '/sys'];

/** Directories that every system needs. Others below them, such as /run/user/1000/disk, are no problem. */
const NEEDED = [
  ...[
    '/bin',
    '/sbin',
    '/lib',
    '/lib32',
    '/lib64',
    '/libx32',
    '/usr/bin',
    '/usr/sbin',
    '/usr/lib',
    '/usr/lib64',
  ],
  ...['/dev/shm', '/dev/pts', '/dev/mqueue', '/etc', '/run/lock', '/run/systemd', '/tmp', '/var/tmp'],
  ...['/nix/store', '/gnu/store'],
];

/** @param path absolute, without symbolic links @throws MountError when programs need that directory or file */
export function refuseSystemPlace(path: string, text: string): void {
  const isIn = (inner: string, outer: string): boolean => `${inner}/`.startsWith(`${outer}/`);
  const isSystem =
    KERNEL.some((place) => isIn(path, place)) || [...KERNEL, ...NEEDED].some((place) => isIn(place, path));
  if (path !== '/' && !isSystem) return;
  const what = path === '/' ? 'the root directory' : path;
  throw new MountError(
    `mountpoint ${text}: nbdfuse does not mount over ${what}, which programs need; use an empty directory`,
  );
}
