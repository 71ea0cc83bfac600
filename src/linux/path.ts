// Files by descriptor: it refers to the same file, whatever is renamed or mounted later.
//
// With O_PATH only name lookups reach the file's file system. Waiting happens in Node's threads, so this process may
// serve that file system itself.

import { open, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { O_NOFOLLOW, O_PATH } from '../constants/open-flags.js';
import { pathBytes, textOfPath } from './path-text.js';
import { closeDescriptor } from './socket.js';

const openFile = promisify(open);

/** Opens the file at `path`; the caller owns the descriptor. @throws NodeJS.ErrnoException */
export function openPath(path: string, { follow }: { readonly follow: boolean }): Promise<number> {
  return openFile(pathBytes(path), O_PATH | (follow ? 0 : O_NOFOLLOW));
}

/** A path for system calls to the file of a descriptor, or to `name` in its directory. */
export function pathThrough(descriptor: number, name = ''): string {
  return `/proc/self/fd/${descriptor}${name === '' ? '' : `/${name}`}`;
}

/** The current path of a descriptor's file: absolute, without symbolic links. */
export function currentPath(descriptor: number): string {
  return textOfPath(readlinkSync(pathThrough(descriptor), { encoding: 'buffer' }));
}

/** The current directory; with ` (deleted)` at its end when it was removed. */
export function currentDirectory(): string {
  return textOfPath(readlinkSync('/proc/self/cwd', { encoding: 'buffer' }));
}

function infoOf(
  descriptor: number | string,
  field: string,
  pid: number | 'self' = 'self',
): number | undefined {
  const text = readFileSync(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8');
  const digits = new RegExp(`^${field}:\\s*(\\d+)$`, 'm').exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The id of the mount through which a descriptor was opened, as in the mount table. */
export function mountIdOf(descriptor: number): number {
  return infoOf(descriptor, 'mnt_id') ?? -1;
}

/** Device number of the mount that a /dev/fuse descriptor serves; undefined before Linux 6.16, which lacks it. */
export function servedDevice(descriptor: number): number | undefined {
  return infoOf(descriptor, 'fuse_connection');
}

/** Device numbers of the mounts that a process serves; empty before Linux 6.16, and if we may not inspect the process. */
export function servedDevices(pid: number): readonly number[] {
  try {
    const descriptors = readdirSync(`/proc/${pid}/fdinfo`);
    return descriptors.flatMap((one) => infoOf(one, 'fuse_connection', pid) ?? []);
  } catch {
    return [];
  }
}

/** Calls `act` with the path through a descriptor, and closes the descriptor. */
export async function using<T>(descriptor: number, act: (path: string) => T | Promise<T>): Promise<T> {
  try {
    return await act(pathThrough(descriptor));
  } finally {
    closeDescriptor(descriptor);
  }
}
