// Makes the channel for the descriptor of a connection: plain or TLS.

import type { PeerHandle, PeerProcesses } from '../../linux/peer.js';
import { isUnixSocket, setNonBlocking } from '../../linux/socket.js';
import { forgetSecrets, type TlsState } from '../../tls/take-over.js';
import { type Channel, PlainChannel } from './channel.js';
import { TlsChannel } from './tls-channel.js';
import type { ZeroCopySender } from './zero-copy.js';

/** A connection that the main thread hands over. */
export interface HandedConnection {
  readonly descriptor: number;
  /** The TLS session. `openChannel` clears its secrets. */
  readonly tls: TlsState | undefined;
  readonly peer: PeerHandle | undefined;
}

/** Makes the channel of a connection, which owns both descriptors. */
export function openChannel(
  handed: HandedConnection,
  zeroCopy: ZeroCopySender,
  peers: PeerProcesses,
): Channel {
  const { descriptor, tls } = handed;
  const peer = handed.peer === undefined ? undefined : peers.adopt(handed.peer);
  if (tls === undefined) {
    const isUnix = isUnixSocket(descriptor);
    // Zero-copy is for Unix sockets only: on TCP it makes small packets, so copying is faster. splice(2) has no
    // MSG_DONTWAIT, so the socket must be non-blocking.
    if (isUnix) setNonBlocking(descriptor);
    return new PlainChannel(descriptor, isUnix ? zeroCopy : undefined, peer);
  }
  const channel = new TlsChannel(descriptor, tls, peer);
  forgetSecrets(tls);
  return channel;
}
