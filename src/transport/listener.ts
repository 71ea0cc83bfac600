// A listening Unix socket for a child to inherit; this process never accepts on it.
//
// Used by socket-activation.ts. Made by system calls, since Node would accept on it at once.

import { unixAddress } from '../linux/datagram.js';
import { SystemError } from '../linux/errno.js';
import { addressOf, errno, libc } from '../linux/libc.js';

/** Connections that may wait until the child accepts them. */
const BACKLOG = 128;

/** Binds a socket to `path`, at most 107 bytes, and listens. @throws SystemError */
export function listenUnix(fd: number, path: string): void {
  const address = unixAddress(path);
  if (libc.bind(fd, addressOf(address), address.length) < 0) throw new SystemError(errno(), 'bind');
  if (libc.listen(fd, BACKLOG) < 0) throw new SystemError(errno(), 'listen');
}
