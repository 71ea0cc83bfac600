// The way to a server that a connection's descriptor needs: plain, or a TLS session.

import type { PeerHandle, PeerProcesses } from '../../linux/peer.js';
import { isUnixSocket, setNonBlocking } from '../../linux/socket.js';
import { forgetSecrets, type TlsState } from '../../tls/take-over.js';
import { type Channel, PlainChannel } from './channel.js';
import { TlsChannel } from './tls-channel.js';
import type { ZeroCopySender } from './zero-copy.js';

/** A connection as the main thread hands it over. */
export interface HandedConnection {
  readonly descriptor: number;
  /** The session that it carries, whose secrets are forgotten here. */
  readonly tls: TlsState | undefined;
  readonly peer: PeerHandle | undefined;
}

/** Makes the channel of a connection; both descriptors belong to it. */
export function openChannel(
  handed: HandedConnection,
  zeroCopy: ZeroCopySender,
  peers: PeerProcesses,
): Channel {
  const { descriptor, tls } = handed;
  const peer = handed.peer === undefined ? undefined : peers.adopt(handed.peer);
  if (tls === undefined) {
    const isUnix = isUnixSocket(descriptor);
    // TCP makes packets of what it is given at once, and copying is what gives it much.
    // splice(2) has no flag for it.
    if (isUnix) setNonBlocking(descriptor);
    return new PlainChannel(descriptor, isUnix ? zeroCopy : undefined, peer);
  }
  const channel = new TlsChannel(descriptor, tls, peer);
  forgetSecrets(tls);
  return channel;
}
