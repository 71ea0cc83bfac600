// The way to a server that a connection's descriptor needs: plain, or a TLS session.

import { isUnixSocket, setNonBlocking } from '../os/socket.js';
import { forgetSecrets, type TlsState } from '../tls/take-over.js';
import { type Channel, PlainChannel } from './channel.js';
import type { Lender } from './lender.js';
import { TlsChannel } from './tls-channel.js';

/** @param tls the session that `descriptor` carries, whose secrets are forgotten here */
export function openChannel(descriptor: number, tls: TlsState | undefined, lender: Lender): Channel {
  if (tls === undefined) {
    // TCP makes packets of what it is given at once, and copying is what gives it much.
    const isToLend = isUnixSocket(descriptor);
    // splice(2) has no flag for it.
    if (isToLend) setNonBlocking(descriptor);
    return new PlainChannel(descriptor, isToLend ? lender : undefined);
  }
  const channel = new TlsChannel(descriptor, tls);
  forgetSecrets(tls);
  return channel;
}
