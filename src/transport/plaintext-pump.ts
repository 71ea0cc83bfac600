// Copies the plain text of a TLS session to and from one end of a socketpair, so that the owner of the other end
// needs no TLS.
//
// Runs on the main thread, made by connection.ts. Backpressure works both ways: neither side is read while the other
// cannot take more. When either side ends or breaks, so does the other.

import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import type { Duplex } from 'node:stream';
import { addressOf, libc } from '../linux/libc.js';
import { MSG_DONTWAIT, MSG_NOSIGNAL, setNonBlocking, setSocketBuffers, socketpair } from '../linux/socket.js';
import { SOCKET_BUFFER } from './stream-descriptor.js';

/** Maximum bytes of one read of the pair: large, so that it takes few TLS records and system calls. */
const READ_SIZE = 256 * 1024;

/** Pumps `secured` and returns the descriptor of the pair's other end, which the caller then owns. */
export function pumpPlaintext(secured: Duplex): number {
  const [near, far] = socketpair();
  setSocketBuffers(near, SOCKET_BUFFER);
  setSocketBuffers(far, SOCKET_BUFFER);
  setNonBlocking(far);
  // Node's types have this option for `connect` only.
  const options: SocketConstructorOpts & { onread: OnReadOpts } = {
    fd: near,
    readable: true,
    writable: true,
    allowHalfOpen: true,
    onread: {
      buffer: Buffer.allocUnsafe(READ_SIZE),
      // Node reuses the buffer at once, while the session keeps its input: hence the copy.
      callback: (count, buffer) => toServer(secured, pair, Buffer.from(buffer.subarray(0, count))),
    },
  };
  const pair = new Socket(options);
  fromServer(secured, pair, near);
  endTogether(secured, pair);
  return far;
}

function toServer(secured: Duplex, pair: Socket, bytes: Buffer): boolean {
  if (secured.destroyed) return false;
  if (secured.write(bytes)) return true;
  secured.once('drain', () => pair.resume());
  return false;
}

function fromServer(secured: Duplex, pair: Socket, fd: number): void {
  secured.on('data', (chunk: Buffer) => {
    // Straight into the kernel while it takes everything: a stream's queue would cost a copy.
    let sent = 0;
    if (pair.writableLength === 0 && !pair.destroyed) {
      sent = Math.max(0, libc.send(fd, addressOf(chunk), chunk.length, MSG_NOSIGNAL | MSG_DONTWAIT));
    }
    if (sent === chunk.length || pair.destroyed) return;
    if (!pair.write(sent === 0 ? chunk : chunk.subarray(sent))) {
      secured.pause();
      pair.once('drain', () => secured.resume());
    }
  });
}

function endTogether(secured: Duplex, pair: Socket): void {
  // The far end has been closed: everything it sent has been read.
  pair.on('end', () => secured.end());
  pair.on('error', () => secured.destroy());
  pair.on('close', () => secured.end());
  // The far end still gets everything that the server sent, and then the end.
  secured.on('end', () => pair.end());
  secured.on('error', () => pair.end());
  secured.on('close', () => pair.end(() => pair.destroy()));
}
