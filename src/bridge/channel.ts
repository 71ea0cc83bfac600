// How a connection's bytes get to its server and back: the interface, and the plain way.
//
// Used by a Connection, which owns its channel. Nothing here blocks. Results and errors are those of the
// system calls: -1 means that errno() is to be read, before any other call. Memory is passed by address.

import { addressOf, libc } from '../os/libc.js';
import { dropOnClose, endSending, MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL } from '../os/socket.js';
import { setVector, VECTOR_SIZE } from '../os/vector.js';
import type { Lender } from './lender.js';

/** Who sends large payloads without a copy: see Lender. */
export type PayloadLender = Pick<Lender, 'able' | 'lend'>;

/** See the file's head. */
export interface Channel {
  /** The socket to wait for; not to be read or written by others unless `spliceable`. */
  readonly descriptor: number;
  /** Whether the socket carries the very bytes, so that splice(2) may take them. */
  readonly spliceable: boolean;
  /** Whether `receive` has something that poll(2) does not see. */
  readonly buffered: boolean;
  /** Whether something was accepted that the socket has not taken: `flush` wants to be called. */
  readonly unsent: boolean;
  /** As recv(2); 0 at the end. Fewer bytes than `length` mean that there are no more for now. */
  receive(address: number, length: number): number;
  /** Sends two pieces, each of which may be empty; how much of them was accepted. `more` follows soon. */
  send(first: number, firstLength: number, second: number, secondLength: number, more: boolean): number;
  /** Who sends large payloads without a copy, where that can be done. */
  readonly lender: PayloadLender | undefined;
  /** Sends what was accepted; 0 when all of it has left. */
  flush(): number;
  /** Sends a last message if the socket takes it. */
  farewell(address: number, length: number): void;
  /** Sends nothing more; the server sees the end behind what was sent. */
  endSending(): void;
  /** As `receive`, but for bytes that nobody wants to understand: what the socket has, as it is. */
  receiveRaw(address: number, length: number): number;
  /** Closes the descriptor and drops what was not delivered, where the socket can. */
  reset(): void;
  /** Closes the descriptor. */
  close(): void;
}

/** Bytes of struct msghdr, which has two struct iovec behind it here. */
const MESSAGE_SIZE = 56;

/** A connected stream socket that carries the bytes as they are. */
export class PlainChannel implements Channel {
  readonly descriptor: number;
  readonly spliceable = true;
  readonly buffered = false;
  readonly unsent = false;
  readonly lender: PayloadLender | undefined;
  readonly #message = new DataView(new ArrayBuffer(MESSAGE_SIZE + 2 * VECTOR_SIZE));
  readonly #messageAddress = addressOf(this.#message);

  constructor(descriptor: number, lender?: PayloadLender) {
    this.descriptor = descriptor;
    this.lender = lender;
    this.#message.setBigUint64(16, BigInt(this.#messageAddress + MESSAGE_SIZE), true);
    this.#message.setBigUint64(24, 2n, true);
  }

  receive(address: number, length: number): number {
    return libc.recv(this.descriptor, address, length, MSG_DONTWAIT);
  }

  send(first: number, firstLength: number, second: number, secondLength: number, more: boolean): number {
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    if (firstLength === 0) return libc.send(this.descriptor, second, secondLength, flags);
    if (secondLength === 0) return libc.send(this.descriptor, first, firstLength, flags);
    setVector(this.#message, MESSAGE_SIZE, first, firstLength);
    setVector(this.#message, MESSAGE_SIZE + VECTOR_SIZE, second, secondLength);
    return libc.sendmsg(this.descriptor, this.#messageAddress, flags);
  }

  flush(): number {
    return 0;
  }

  farewell(address: number, length: number): void {
    libc.send(this.descriptor, address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  endSending(): void {
    endSending(this.descriptor);
  }

  receiveRaw(address: number, length: number): number {
    return libc.recv(this.descriptor, address, length, MSG_DONTWAIT);
  }

  reset(): void {
    dropOnClose(this.descriptor);
    this.close();
  }

  close(): void {
    libc.close(this.descriptor);
  }
}
