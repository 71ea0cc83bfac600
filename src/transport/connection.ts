// A connection at the start of its transmission phase, to be taken exactly once: as a descriptor for
// the bridge's worker, or as a stream for the Promise client.
//
// Made by server.ts. Until it is taken, `close` ends it; afterwards whoever took it does.

import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { ExportInfo } from '../nbd/export-info.js';
import { duplicate, setSocketBuffers } from '../os/socket.js';
import { DescriptorStream } from './descriptor-stream.js';
import { TransportError } from './errors.js';
import { pumpPlaintext } from './plaintext-pump.js';

/** Bytes that a Unix socket shall hold each way: some of the largest requests. */
const SOCKET_BUFFER = 4 * 1024 * 1024;

/** A negotiated connection. */
export class NegotiatedConnection {
  /** What the handshake found out about the export. */
  readonly info: ExportInfo;
  #stream: Duplex | undefined;

  constructor(info: ExportInfo, stream: Duplex) {
    this.info = info;
    this.#stream = stream;
  }

  /**
   * A plain-text, non-blocking stream descriptor at a message boundary; the caller owns it. Of a TLS
   * session it is one end of a socketpair that this thread serves: do not block the thread for long.
   */
  takeDescriptor(): number {
    const stream = this.takeStream();
    if (stream instanceof DescriptorStream) return stream.release();
    if (stream instanceof TLSSocket || !(stream instanceof Socket)) return pumpPlaintext(stream);
    const { fd } = (stream as Socket & { _handle?: { fd?: number } })._handle ?? {};
    if (fd === undefined || fd < 0) {
      throw new TransportError('the server closed the connection after the handshake');
    }
    const copy = duplicate(fd);
    // TCP sizes its buffers itself, by what the way is like; a Unix socket keeps its small ones.
    if (stream.remoteFamily === undefined) setSocketBuffers(copy, SOCKET_BUFFER);
    stream.destroy();
    return copy;
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
