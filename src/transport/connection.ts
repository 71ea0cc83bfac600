// A connection at the start of its transmission phase, to be taken exactly once: as a descriptor for
// the bridge's worker, or as a stream for the Promise client.
//
// Made by server.ts. Until it is taken, `close` ends it; afterwards whoever took it does.

import type { Duplex } from 'node:stream';
import type { ExportInfo } from '../nbd/export-info.js';
import { TransportError } from './errors.js';
import { pumpPlaintext } from './plaintext-pump.js';
import { isBareSocket, takeStreamDescriptor } from './stream-descriptor.js';
import type { TakenSession, TlsHandover } from './tls-handover.js';

/** A negotiated connection. */
export class NegotiatedConnection {
  /** What the handshake found out about the export. */
  readonly info: ExportInfo;
  #stream: Duplex | undefined;
  readonly #handover: TlsHandover | undefined;

  /** @param handover a way to take the session of `stream` over, where it is a TLS session that has one */
  constructor(info: ExportInfo, stream: Duplex, handover?: TlsHandover) {
    this.info = info;
    this.#stream = stream;
    this.#handover = handover;
  }

  /**
   * A non-blocking stream descriptor at a message boundary, which the caller owns, and the TLS session
   * that it carries. Where `tls` is undefined the descriptor is that of `takeDescriptor`.
   */
  takeSocket(): TakenSession | { readonly descriptor: number; readonly tls: undefined } {
    const taken = this.#stream === undefined ? undefined : this.#handover?.take();
    if (taken === undefined) return { descriptor: this.takeDescriptor(), tls: undefined };
    this.#stream = undefined;
    return taken;
  }

  /**
   * A plain-text, non-blocking stream descriptor at a message boundary; the caller owns it. Of a TLS
   * session it is one end of a socketpair that this thread serves: do not block the thread for long.
   */
  takeDescriptor(): number {
    const stream = this.takeStream();
    if (!isBareSocket(stream)) return pumpPlaintext(stream);
    const descriptor = takeStreamDescriptor(stream);
    if (descriptor === undefined) {
      throw new TransportError('the server closed the connection after the handshake');
    }
    return descriptor;
  }

  /** The plain-text stream at a message boundary; the caller owns it and listens for its errors. */
  takeStream(): Duplex {
    const stream = this.#stream;
    if (stream === undefined) throw new TransportError('the connection has been taken already');
    this.#stream = undefined;
    return stream;
  }

  /** Drops the connection if nobody has taken it. */
  close(): void {
    this.#stream?.destroy();
    this.#stream = undefined;
  }
}
