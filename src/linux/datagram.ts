// Datagrams to Unix sockets, which Node cannot send.
//
// Never blocks: a datagram is lost if the receiver has no room for it.

import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';
import { AF_UNIX, MSG_NOSIGNAL, openSocket, SOCK_DGRAM, SOCK_NONBLOCK } from './socket.js';

/** Bytes of a socket's path that fit in a sockaddr_un, less its final NUL. */
export const UNIX_PATH_MAX = 107;

/** Makes a `struct sockaddr_un` for a path of 1 to 107 bytes, or for an abstract name, which begins with NUL. */
export function unixAddress(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(name).subarray(0, UNIX_PATH_MAX);
  const isAbstract = bytes[0] === 0;
  // A path ends with a NUL, an abstract name with the address.
  const address = new Uint8Array(2 + bytes.length + (isAbstract ? 0 : 1));
  new Uint16Array(address.buffer, 0, 1)[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

/** Sends one datagram to the Unix socket `name`, as in `unixAddress`. @throws SystemError */
export function sendDatagram(name: string, text: string): void {
  const descriptor = openSocket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK);
  try {
    const address = unixAddress(name);
    if (libc.connect(descriptor, addressOf(address), address.length) < 0)
      throw new SystemError(errno(), 'connect');
    const bytes = Buffer.from(text);
    if (libc.send(descriptor, addressOf(bytes), bytes.length, MSG_NOSIGNAL) < 0)
      throw new SystemError(errno(), 'send');
  } finally {
    libc.close(descriptor);
  }
}
