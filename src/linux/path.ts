// Files by descriptor: what a path named once stays the same file, whatever is renamed or mounted later.
//
// A descriptor of O_PATH opens nothing: no request reaches the file system that the file is on, save for those that
// look its name up. Waiting happens in node's threads, so the file may be one that this process serves.

import { open, readFileSync, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { O_NOFOLLOW, O_PATH } from './open-flags.js';
import { closeDescriptor } from './socket.js';

const openFile = promisify(open);

/** A descriptor of what `path` names, which belongs to the caller. @throws NodeJS.ErrnoException */
export function openPath(path: string, { follow }: { readonly follow: boolean }): Promise<number> {
  return openFile(path, O_PATH | (follow ? 0 : O_NOFOLLOW));
}

/** A path by which system calls reach the file of a descriptor, or `name` in its directory. */
export function pathThrough(descriptor: number, name = ''): string {
  return `/proc/self/fd/${descriptor}${name === '' ? '' : `/${name}`}`;
}

/** Where the file of a descriptor is now: absolute, without symbolic links. */
export function currentPath(descriptor: number): string {
  return readlinkSync(pathThrough(descriptor));
}

function infoOf(descriptor: number, field: string): number | undefined {
  const text = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8');
  const digits = new RegExp(`^${field}:\\s*(\\d+)$`, 'm').exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The mount that a descriptor's file was reached through, by its number in the table of mounts. */
export function mountIdOf(descriptor: number): number {
  return infoOf(descriptor, 'mnt_id') ?? -1;
}

/** The device number of the mount that a /dev/fuse descriptor serves; undefined before Linux 6.16, which does not tell. */
export function servedDevice(descriptor: number): number | undefined {
  return infoOf(descriptor, 'fuse_connection');
}

/** Does `act` with the path through a descriptor, and closes it. */
export async function using<T>(descriptor: number, act: (path: string) => T | Promise<T>): Promise<T> {
  try {
    return await act(pathThrough(descriptor));
  } finally {
    closeDescriptor(descriptor);
  }
}
