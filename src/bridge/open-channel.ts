// The way to a server that a connection's descriptor needs: plain, or a TLS session.

import type { PeerProcesses } from '../os/peer.js';
import { isUnixSocket, setNonBlocking } from '../os/socket.js';
import { forgetSecrets, type TlsState } from '../tls/take-over.js';
import { type Channel, PlainChannel } from './channel.js';
import type { Lender } from './lender.js';
import { TlsChannel } from './tls-channel.js';

/** @param tls the session that `descriptor` carries, whose secrets are forgotten here */
export function openChannel(
  descriptor: number,
  tls: TlsState | undefined,
  lender: Lender,
  peers: PeerProcesses,
): Channel {
  const isUnix = isUnixSocket(descriptor);
  const peer = isUnix ? peers.of(descriptor) : undefined;
  if (tls === undefined) {
    // TCP makes packets of what it is given at once, and copying is what gives it much.
    // splice(2) has no flag for it.
    if (isUnix) setNonBlocking(descriptor);
    return new PlainChannel(descriptor, isUnix ? lender : undefined, peer);
  }
  const channel = new TlsChannel(descriptor, tls, peer);
  forgetSecrets(tls);
  return channel;
}
