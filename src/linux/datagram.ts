// Datagrams to Unix sockets, which Node cannot send.
//
// Never blocks: a datagram is lost if the receiver has no room for it.

import { SystemError } from './errno.js';
import { addressOf, errno, libc } from './libc.js';
import { AF_UNIX, MSG_NOSIGNAL, openSocket, SOCK_DGRAM, SOCK_NONBLOCK } from './socket.js';
import { unixAddress } from './unix-socket.js';

/** Sends one datagram to the Unix socket `name`, as in `unixAddress`. @throws SystemError, RangeError */
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
