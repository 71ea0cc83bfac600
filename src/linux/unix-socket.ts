// Stream sockets at Unix addresses by system calls: Node pads abstract names and refuses paths beyond 107 bytes.
//
// Never blocks. The caller owns every returned descriptor.

import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { ECONNREFUSED } from '../constants/errno.js';
import { O_PATH } from '../constants/open-flags.js';
import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';
import { openPath, pathThrough, using } from './path.js';
import { isUtf8Path } from './path-text.js';
import { AF_UNIX, closeDescriptor, openSocket, SOCK_NONBLOCK, SOCK_STREAM } from './socket.js';

/** Bytes of `sun_path`. A path ends with a NUL, an abstract name with the address. */
const SUN_PATH = 108;

/** Connections that may wait until the server accepts them. */
const BACKLOG = 128;

/** Whether a path with its NUL, or an abstract name, fits a `struct sockaddr_un`. */
function fits(name: string): boolean {
  return Buffer.byteLength(name) + (name.startsWith('\0') ? 0 : 1) <= SUN_PATH;
}

/** Makes a `struct sockaddr_un` for a path of 1 to 107 bytes, or an abstract name: a NUL and up to 107 bytes. */
export function unixAddress(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(name);
  if (!fits(name)) throw new RangeError('the name of the socket is too long');
  const address = new Uint8Array(2 + bytes.length + (name.startsWith('\0') ? 0 : 1));
  new Uint16Array(address.buffer, 0, 1)[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

/**
 * The path to which a Unix socket is bound, as the binding process gave it; empty without one. An abstract name begins
 * with NUL. @throws SystemError
 */
export function unixSocketPath(descriptor: number): string {
  const address = new Uint8Array(2 + SUN_PATH);
  const length = new Uint32Array([address.length]);
  if (libc.getsockname(descriptor, addressOf(address), addressOf(length)) < 0)
    throw new SystemError(errno(), 'getsockname');
  const name = address.subarray(2, length[0]);
  const end = name[0] === 0 ? -1 : name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

function connectTo(address: Uint8Array): number {
  const descriptor = openSocket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);
  if (libc.connect(descriptor, addressOf(address), address.length) === 0) return descriptor;
  const error = errno();
  closeDescriptor(descriptor);
  throw new SystemError(error, 'connect');
}

/** Some servers fill the address up with NULs: Node, and QEMU with `tight=off`. */
function connectToName(name: string): number {
  try {
    return connectTo(unixAddress(name));
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== ECONNREFUSED) throw error;
    return connectTo(unixAddress(name + '\0'.repeat(SUN_PATH - Buffer.byteLength(name))));
  }
}

/**
 * Connects to the socket at a path of any length, or with an abstract name, which begins with NUL. The descriptor is
 * non-blocking.
 * @throws SystemError: EAGAIN while the server has accepted too few connections; NodeJS.ErrnoException; RangeError for
 *   an abstract name that is too long
 */
export async function connectUnixSocket(name: string): Promise<number> {
  if (name.startsWith('\0')) return connectToName(name);
  if (fits(name) && isUtf8Path(name)) return connectTo(unixAddress(name));
  return using(await openPath(name, { follow: true }), (path) => connectTo(unixAddress(path)));
}

/** Binds a socket to a path of any length, and listens. @throws SystemError; NodeJS.ErrnoException */
export function listenUnix(fd: number, path: string): void {
  if (fits(path)) {
    bindAndListen(fd, path);
    return;
  }
  const directory = openSync(dirname(path), O_PATH);
  try {
    bindAndListen(fd, pathThrough(directory, basename(path)));
  } finally {
    closeSync(directory);
  }
}

function bindAndListen(fd: number, path: string): void {
  const address = unixAddress(path);
  if (libc.bind(fd, addressOf(address), address.length) < 0) throw new SystemError(errno(), 'bind');
  if (libc.listen(fd, BACKLOG) < 0) throw new SystemError(errno(), 'listen');
}
