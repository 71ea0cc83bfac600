// How a connection's bytes get to its server and back: the interface, and the plain way.
//
// Used by a Connection, which owns its channel. Nothing here blocks. Results and errors are those of the
// system calls: -1 means that errno() is to be read, before any other call. Memory is passed by address.

import { addressOf, libc } from '../../linux/libc.js';
import {
  dropOnClose,
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_NOSIGNAL,
  retransmissions,
  unreadBytes,
} from '../../linux/socket.js';
import { setVector, VECTOR_SIZE } from '../../linux/vector.js';
import type { ZeroCopySender } from './zero-copy.js';

/** Who sends large payloads without a copy: see Lender. */
export type PayloadSender = Pick<ZeroCopySender, 'usable' | 'send'>;

/** The server's process, where the kernel proves which one it is. */
export interface Peer {
  /** Whether it has ended: then nothing that it was sent will be carried out any more. */
  readonly ended: boolean;
  /** Another reference, which is to be released as well. */
  share(): Peer;
  release(): void;
}

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
  readonly zeroCopy: PayloadSender | undefined;
  /** The process at the other end; the channel's reference is released with `close`. */
  readonly peer: Peer | undefined;
  /** Bytes that a socket which was lent pages holds and the server has not read, and some more for each message. */
  unread(): number;
  /** How often the kernel has sent the oldest bytes again in vain. */
  readonly retransmissions: number;
  /** Makes the kernel drop at `close` what it has not delivered. */
  dropOnClose(): void;
  /** Sends what was accepted; 0 when all of it has left. */
  flush(): number;
  /** Sends a last message if the socket takes it. */
  sendLast(address: number, length: number): void;
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
  readonly zeroCopy: PayloadSender | undefined;
  readonly peer: Peer | undefined;
  readonly #message = new DataView(new ArrayBuffer(MESSAGE_SIZE + 2 * VECTOR_SIZE));
  readonly #messageAddress = addressOf(this.#message);

  constructor(descriptor: number, zeroCopy?: PayloadSender, peer?: Peer) {
    this.descriptor = descriptor;
    this.zeroCopy = zeroCopy;
    this.peer = peer;
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

  sendLast(address: number, length: number): void {
    libc.send(this.descriptor, address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  unread(): number {
    return unreadBytes(this.descriptor);
  }

  get retransmissions(): number {
    return retransmissions(this.descriptor);
  }

  dropOnClose(): void {
    dropOnClose(this.descriptor);
  }

  close(): void {
    this.peer?.release();
    libc.close(this.descriptor);
  }
}
