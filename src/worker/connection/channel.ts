// The channel of a connection: sends bytes to the server and receives them. Here: the interface, and plain sockets.
//
// Owned by a Connection. Never blocks. Results are those of the system calls: after -1, errno() has the error until the
// next call. Memory is passed by address.

import { addressOf, libc } from '../../linux/libc.js';
import {
  dropOnClose,
  MESSAGE_SIZE,
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_NOSIGNAL,
  retransmissions,
  unreadBytes,
} from '../../linux/socket.js';
import { setVector, VECTOR_SIZE } from '../../linux/vector.js';
import type { ZeroCopySender } from './zero-copy.js';

/** Sends large payloads without a copy; see ZeroCopySender. */
export type PayloadSender = Pick<ZeroCopySender, 'usable' | 'send' | 'messageSize' | 'splicedSize'>;

/** The server's process, where the kernel proves which one it is. */
export interface Peer {
  /** Whether the process has ended. It carries out no request any more then. */
  readonly ended: boolean;
  /** Adds a reference, to be released as well. */
  share(): Peer;
  release(): void;
}

/** See the file's head. */
export interface Channel {
  /** The socket, for poll(2). Only a `spliceable` one may be read or written by others. */
  readonly descriptor: number;
  /** Whether the socket carries the bytes as they are, so that splice(2) works. */
  readonly spliceable: boolean;
  /** Whether `receive` has bytes that poll(2) does not report. */
  readonly buffered: boolean;
  /** Whether accepted bytes have not reached the socket: call `flush` again. */
  readonly unsent: boolean;
  /** As recv(2); 0 at the end of the stream. Fewer bytes than `length`: no more for now. */
  receive(address: number, length: number): number;
  /** Sends two buffers, either of which may be empty. Returns the count of accepted bytes. `more`: more will follow. */
  send(first: number, firstLength: number, second: number, secondLength: number, more: boolean): number;
  /** Sends large payloads without a copy; undefined where that is impossible. */
  readonly zeroCopy: PayloadSender | undefined;
  /** The server's process. `close` releases the channel's reference. */
  readonly peer: Peer | undefined;
  /** Memory of the messages in a zero-copy socket that the server has not read to their ends, in bytes. */
  unread(): number;
  /** How often the kernel has retransmitted the oldest bytes without an acknowledgement. */
  readonly retransmissions: number;
  /** Makes `close` discard undelivered bytes. */
  dropOnClose(): void;
  /** Sends accepted bytes. Returns 0 when all have reached the socket. */
  flush(): number;
  /** Sends a last message if the socket has room. */
  sendLast(address: number, length: number): void;
  /** Closes the descriptor. */
  close(): void;
}

/** A connected stream socket without TLS. */
export class PlainChannel implements Channel {
  readonly descriptor: number;
  readonly spliceable = true;
  readonly buffered = false;
  readonly unsent = false;
  readonly zeroCopy: PayloadSender | undefined;
  readonly peer: Peer | undefined;
  /** A struct msghdr and two struct iovec. */
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
