// A connection at the start of its transmission phase. It is taken exactly once: as a descriptor for the worker, or
// as a stream for the Promise client.
//
// Made by server.ts. Until it is taken, `close` ends it; afterwards its new owner does.

import type { Duplex } from 'node:stream';
import { closePeer, type PeerHandle, peerHasEnded } from '../linux/peer.js';
import type { ExportInfo } from '../nbd/export-info.js';
import { TransportError } from './errors.js';
import { pumpPlaintext } from './plaintext-pump.js';
import { isBareSocket, takeStreamDescriptor } from './stream-descriptor.js';
import type { TakenSession, TlsHandover } from './tls-handover.js';

/** A connection, taken as a socket. */
export interface TakenSocket {
  readonly descriptor: number;
  readonly tls: TakenSession['tls'] | undefined;
  readonly peer: PeerHandle | undefined;
}

const CLOSED = 'the server closed the connection after the handshake';

/** A negotiated connection. */
export class NegotiatedConnection {
  /** The export as the handshake described it. */
  readonly info: ExportInfo;
  #stream: Duplex | undefined;
  readonly #handover: TlsHandover | undefined;
  #peer: PeerHandle | undefined;

  /**
   * @param handover takes over the TLS session of `stream`, where that is possible
   * @param peer the server's process, whose descriptor belongs to the connection
   */
  constructor(info: ExportInfo, stream: Duplex, handover?: TlsHandover, peer?: PeerHandle) {
    this.info = info;
    this.#stream = stream;
    this.#handover = handover;
    this.#peer = peer;
  }

  /**
   * A non-blocking stream descriptor at a message boundary, which the caller owns, and the TLS session
   * that it carries. Where `tls` is undefined the descriptor is that of `takeDescriptor`. `peer` is the
   * server's process, where it is known.
   * @throws TransportError when that process has ended
   */
  takeSocket(): TakenSocket {
    const peer = this.#peer;
    this.#peer = undefined;
    try {
      if (peer !== undefined && peerHasEnded(peer)) throw new TransportError('the server has ended');
      const taken = this.#stream === undefined ? undefined : this.#handover?.take();
      if (taken === undefined) return { descriptor: this.takeDescriptor(), tls: undefined, peer };
      this.#stream = undefined;
      return { ...taken, peer };
    } catch (error) {
      if (peer !== undefined) closePeer(peer);
      throw error;
    }
  }

  /**
   * A plain-text, non-blocking stream descriptor at a message boundary; the caller owns it. For a TLS
   * session it is one end of a socketpair that this thread serves: do not block the thread for long.
   */
  takeDescriptor(): number {
    const stream = this.takeStream();
    if (!isBareSocket(stream)) return pumpPlaintext(stream);
    const descriptor = takeStreamDescriptor(stream);
    if (descriptor === undefined) throw new TransportError(CLOSED);
    return descriptor;
  }

  /**
   * The plain-text stream at a message boundary; the caller owns it and listens for its errors.
   * @throws TransportError if the connection has ended or was taken already
   */
  takeStream(): Duplex {
    this.#forgetPeer();
    const stream = this.#stream;
    if (stream === undefined) throw new TransportError('the connection has been taken already');
    this.#stream = undefined;
    // Its end has been reported already, and a new owner would wait for it without end.
    if (stream.destroyed) throw new TransportError(CLOSED);
    return stream;
  }

  /** The processes that serve the connection, if they are known; the caller owns their descriptors. */
  takePeer(): PeerHandle | undefined {
    const peer = this.#peer;
    this.#peer = undefined;
    // One that went into the background has left the connection to a process that nobody knows.
    if (peer === undefined || !peerHasEnded(peer)) return peer;
    closePeer(peer);
    return undefined;
  }

  /** Names the processes whose end proves that the connection's requests are over, and takes over their descriptors. */
  watch(peer: PeerHandle | undefined): void {
    this.#forgetPeer();
    this.#peer = peer;
  }

  /** Closes the connection, unless it was taken. */
  close(): void {
    this.#forgetPeer();
    this.#stream?.destroy();
    this.#stream = undefined;
  }

  #forgetPeer(): void {
    if (this.#peer !== undefined) closePeer(this.#peer);
    this.#peer = undefined;
  }
}
