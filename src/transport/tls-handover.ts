// Takes over a TLS 1.3 session from Node, so that the worker continues it without Node.
//
// Made by tls.ts with the session, used by connection.ts. Hands a session over only if its whole state is
// known; otherwise Node keeps it.

import type { TLSSocket } from 'node:tls';
import { standing, type TlsState } from '../tls/take-over.js';
import { isSuiteName } from '../tls/traffic-keys.js';
import { isBareSocket, takeStreamDescriptor } from './stream-descriptor.js';
import type { TlsTap } from './tls-tap.js';

/** A socket with the session that it carries. */
export interface TakenSession {
  /** Non-blocking, at a message boundary; the taker owns it. */
  readonly descriptor: number;
  readonly tls: TlsState;
}

/** See the file's head. */
export class TlsHandover {
  readonly #secured: TLSSocket;
  readonly #tap: TlsTap;
  #clientSecret: Uint8Array | undefined;
  #serverSecret: Uint8Array | undefined;

  /** Make it before the handshake begins: Node reports the secrets only during the handshake. */
  constructor(secured: TLSSocket, tap: TlsTap) {
    this.#secured = secured;
    this.#tap = tap;
    secured.on('keylog', (line: Buffer) => this.#note(line));
  }

  /**
   * The session, if no bytes are in transit; the streams are unusable then. Undefined when it cannot be taken over:
   * Node then keeps it for good.
   */
  take(): TakenSession | undefined {
    const { below } = this.#tap;
    const socket = isBareSocket(below) ? below : undefined;
    const tls = socket && this.#state();
    if (socket === undefined || tls === undefined) {
      this.#tap.stopWatching();
      this.#clientSecret?.fill(0);
      this.#serverSecret?.fill(0);
      return undefined;
    }
    this.#tap.silence();
    const descriptor = takeStreamDescriptor(socket);
    this.#secured.destroy();
    return descriptor === undefined ? undefined : { descriptor, tls };
  }

  #state(): TlsState | undefined {
    const [secured, tap] = [this.#secured, this.#tap];
    const [client, server] = [this.#clientSecret, this.#serverSecret];
    if (secured.destroyed || tap.destroyed || secured.getProtocol() !== 'TLSv1.3') return undefined;
    const suite = secured.getCipher().name;
    if (!isSuiteName(suite) || client === undefined || server === undefined) return undefined;
    if (secured.readableLength + secured.writableLength > 0 || tap.busy) return undefined;
    const receiving = standing(suite, server, tap.received.last);
    const sending = standing(suite, client, tap.sent.last);
    if (receiving === undefined || sending === undefined || tap.sent.begun.length > 0) return undefined;
    return { suite, receiving, sending, begun: tap.received.begun };
  }

  /** A line of the key log: label, client random, secret. */
  #note(line: Buffer): void {
    const [label, , secret = ''] = line.toString('latin1').trim().split(' ');
    // Copies, since small buffers share their memory, which would cross to the worker as a whole.
    if (label === 'CLIENT_TRAFFIC_SECRET_0') this.#clientSecret = Uint8Array.from(Buffer.from(secret, 'hex'));
    if (label === 'SERVER_TRAFFIC_SECRET_0') this.#serverSecret = Uint8Array.from(Buffer.from(secret, 'hex'));
  }
}
