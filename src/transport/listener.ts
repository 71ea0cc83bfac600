// A listening Unix socket that nobody in this process accepts on: it is for a child to inherit.
//
// Used by socket-activation.ts. Made by system calls, since Node would accept on it at once.

import { SystemError } from '../os/errno.js';
import { addressOf, errno, libc } from '../os/libc.js';
import { closeDescriptor } from '../os/socket.js';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const FAMILY_LENGTH = 2;
const SOCKADDR_UN_LENGTH = 110;

/** Connections that may wait until the child accepts them. */
const BACKLOG = 128;

/** Binds and listens on `path`, at most 107 bytes. The caller closes the descriptor. */
export function listenUnix(path: string): number {
  const address = new Uint8Array(SOCKADDR_UN_LENGTH);
  new Uint16Array(address.buffer, 0, 1)[0] = AF_UNIX;
  address.set(
    new TextEncoder().encode(path).subarray(0, SOCKADDR_UN_LENGTH - FAMILY_LENGTH - 1),
    FAMILY_LENGTH,
  );
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SystemError(errno(), 'socket');
  for (const call of ['bind', 'listen'] as const) {
    const result =
      call === 'bind' ? libc.bind(fd, addressOf(address), SOCKADDR_UN_LENGTH) : libc.listen(fd, BACKLOG);
    if (result === 0) continue;
    const failure = new SystemError(errno(), call);
    closeDescriptor(fd);
    throw failure;
  }
  return fd;
}
