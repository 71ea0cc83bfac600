// One client of the server: its socket, its handshake and its requests.
//
// Owned by serve.ts. A client that breaks the protocol loses its connection. After NBD_CMD_DISC, and after the end of
// its bytes, a client still gets the replies to its requests.

import type { Socket } from 'node:net';
import { NbdProtocolError } from '../../nbd/errors.js';
import { printable } from '../../nbd/text.js';
import type { DiskConnection, ServedDisk } from '../contract/disk.js';
import { GREETING, type Offer, ServerHandshake } from './handshake.js';
import { lengthOf } from './replies.js';
import { RequestReceiver } from './request-receiver.js';
import { Transmission } from './transmission.js';

/** The client's state in the transmission phase. */
interface Requests {
  readonly receiver: RequestReceiver;
  readonly transmission: Transmission;
}

/** A reply that is to leave. */
interface Reply {
  readonly parts: readonly Uint8Array[];
  readonly onSent: () => void;
}

/** Bytes of a reply that are copied, so that it is one part. */
const SHORT = 16 * 1024;

/** The parts of a reply, or one copy of all. */
function joinedIfShort(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  if (parts.length === 1) return parts;
  const length = lengthOf(parts);
  return length > SHORT ? parts : [Buffer.concat(parts, length)];
}

/** See the file's head. */
export class ServedClient {
  readonly #socket: Socket;
  #connection: DiskConnection | undefined;
  #handshake: ServerHandshake | undefined;
  #requests: Requests | undefined;
  /** Replies of this turn. */
  #replies: Reply[] = [];
  #hasEnded = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    // 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#closeDisk());
  }

  /** Serves the client until it goes; never rejects. The greeting waits for nothing, the rest for the disk. */
  async serve(disk: ServedDisk): Promise<void> {
    this.#socket.write(GREETING);
    const offer = await this.#connect(disk);
    if (this.#socket.destroyed) {
      this.#closeDisk();
      return;
    }
    this.#handshake = new ServerHandshake(offer);
    this.#connection?.onLost(() => this.#socket.destroy());
    this.#socket.on('data', (bytes) => this.#receive(bytes));
    this.#socket.on('end', () => {
      this.#hasEnded = true;
      this.#leaveWhenDone();
    });
  }

  #closeDisk(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  async #connect(disk: ServedDisk): Promise<Offer> {
    try {
      this.#connection = await disk.connect();
      return this.#connection.properties;
    } catch (error) {
      return { refusal: printable(error instanceof Error ? error.message : String(error)) };
    }
  }

  #receive(bytes: Uint8Array): void {
    try {
      if (this.#requests !== undefined) this.#receiveRequests(this.#requests, bytes);
      else if (this.#handshake !== undefined) this.#shakeHands(this.#handshake, bytes);
    } catch (error) {
      if (!(error instanceof NbdProtocolError)) throw error;
      this.#socket.destroy();
    }
  }

  #shakeHands(handshake: ServerHandshake, bytes: Uint8Array): void {
    const replies = handshake.receive(bytes);
    const hasRoom = replies.length === 0 || this.#socket.write(replies);
    if (handshake.phase === 'end') this.#leave();
    else if (handshake.phase === 'transmission') this.#transmit(handshake);
    else if (!hasRoom) {
      this.#socket.pause();
      this.#socket.once('drain', () => this.#socket.resume());
    }
  }

  #transmit(handshake: ServerHandshake): void {
    if (this.#connection === undefined) throw new Error('a client opened a disk that is not there');
    const transmission = new Transmission(this.#connection, handshake.terms, {
      send: (parts, onSent) => this.#send(parts, onSent),
      onProgress: () => this.#goOn(),
      onLost: () => this.#socket.destroy(),
    });
    const receiver = new RequestReceiver(transmission, this.#connection.properties.blockSizes.maximum);
    this.#requests = { receiver, transmission };
    this.#receiveRequests(this.#requests, handshake.takeRest());
  }

  #receiveRequests({ receiver, transmission }: Requests, bytes: Uint8Array): void {
    receiver.receive(bytes);
    if (receiver.isDeclined) this.#socket.pause();
    if (transmission.isLeaving) this.#leaveWhenDone();
  }

  /** Continues with requests that had to wait. */
  #goOn(): void {
    const { receiver, transmission } = this.#requests ?? {};
    if (receiver?.isDeclined === true && !this.#socket.destroyed) {
      this.#receive(new Uint8Array(0));
      if (!receiver.isDeclined) this.#socket.resume();
    }
    if (this.#hasEnded || transmission?.isLeaving === true) this.#leaveWhenDone();
  }

  /** Sends the parts of a reply; all replies of one turn leave in one call. */
  #send(parts: readonly Uint8Array[], onSent: () => void): void {
    if (this.#replies.length === 0) process.nextTick(this.#flush);
    this.#replies.push({ parts: joinedIfShort(parts), onSent });
  }

  readonly #flush = (): void => {
    const replies = this.#replies;
    this.#replies = [];
    // A single part needs no detour through the stream's buffer.
    const isOne = replies.length === 1 && replies[0].parts.length === 1;
    if (!isOne) this.#socket.cork();
    for (let i = 0; i < replies.length; i++) this.#write(replies[i]);
    if (!isOne) this.#socket.uncork();
  };

  #write({ parts, onSent }: Reply): void {
    const last = parts.length - 1;
    for (let i = 0; i < last; i++) this.#socket.write(parts[i]);
    // An error ends the connection.
    this.#socket.write(parts[last], (error) => error ?? onSent());
  }

  /** Ends the connection when all requests that came have their replies. */
  #leaveWhenDone(): void {
    const { receiver, transmission } = this.#requests ?? {};
    if (transmission?.isIdle === false) return;
    if (receiver?.isDeclined === true && transmission?.isLeaving === false) return;
    this.#leave();
  }

  /** Ends the connection after the replies that have not left. */
  #leave(): void {
    this.#socket.destroySoon();
  }
}
