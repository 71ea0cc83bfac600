// The way to a server that a connection's descriptor needs: plain, or a TLS session.

import { forgetSecrets, type TlsState } from '../tls/take-over.js';
import { type Channel, PlainChannel } from './channel.js';
import { TlsChannel } from './tls-channel.js';

/** @param tls the session that `descriptor` carries, whose secrets are forgotten here */
export function openChannel(descriptor: number, tls: TlsState | undefined): Channel {
  if (tls === undefined) return new PlainChannel(descriptor);
  const channel = new TlsChannel(descriptor, tls);
  forgetSecrets(tls);
  return channel;
}
