// A stream over any connected stream socket, by recv and send: for AF_VSOCK, which Node cannot wrap.
//
// Made by dial.ts. Owns the descriptor until `release` or `destroy`. All calls are non-blocking;
// waiting happens in readiness.ts.

import { Duplex } from 'node:stream';
import { EAGAIN } from '../constants/errno.js';
import { SystemError } from '../linux/errno.js';
import { addressOf, errno, libc } from '../linux/libc.js';
import { closeDescriptor, MSG_NOSIGNAL, setNonBlocking } from '../linux/socket.js';
import { whenReadable, whenWritable } from './readiness.js';

const SHUT_WR = 1;

/** Bytes that one recv may give. */
const RECEIVE_SIZE = 256 * 1024;

export class DescriptorStream extends Duplex {
  #fd: number;
  #forget: (() => void)[] = [];

  constructor(fd: number) {
    super({ readableHighWaterMark: RECEIVE_SIZE, writableHighWaterMark: RECEIVE_SIZE });
    setNonBlocking(fd);
    this.#fd = fd;
  }

  /** Returns the descriptor, still connected; the stream is unusable afterwards. */
  release(): number {
    const fd = this.#fd;
    this.#fd = -1;
    this.destroy();
    return fd;
  }

  override _read(): void {
    if (this.#fd < 0) return;
    const chunk = Buffer.allocUnsafe(RECEIVE_SIZE);
    const count = libc.recv(this.#fd, addressOf(chunk), RECEIVE_SIZE, MSG_NOSIGNAL);
    if (count > 0) this.push(chunk.subarray(0, count));
    else if (count === 0) this.push(null);
    else if (errno() === EAGAIN) this.#later(whenReadable, () => this._read());
    else this.destroy(new SystemError(errno(), 'recv'));
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    let sent = 0;
    while (sent < chunk.length && this.#fd >= 0) {
      const count = libc.send(this.#fd, addressOf(chunk) + sent, chunk.length - sent, MSG_NOSIGNAL);
      if (count >= 0) {
        sent += count;
      } else if (errno() === EAGAIN) {
        const rest = chunk.subarray(sent);
        this.#later(whenWritable, () => this._write(rest, 'buffer', done));
        return;
      } else {
        done(new SystemError(errno(), 'send'));
        return;
      }
    }
    done();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#fd >= 0) libc.shutdown(this.#fd, SHUT_WR);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    for (const forget of this.#forget) forget();
    if (this.#fd >= 0) closeDescriptor(this.#fd);
    this.#fd = -1;
    done(error);
  }

  #later(when: (fd: number, wake: () => void) => () => void, wake: () => void): void {
    const forget = when(this.#fd, () => {
      this.#forget = this.#forget.filter((other) => other !== forget);
      wake();
    });
    this.#forget.push(forget);
  }
}
