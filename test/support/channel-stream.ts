// A stream over a channel of the worker, as a connection drives it, for tests in which a client speaks NBD.
//
// Owns the channel. Waits for the descriptor only when the channel reports that its buffers are empty, so that
// the test hangs if bytes stay in them unreported.

import { Duplex } from 'node:stream';
import { EAGAIN } from '../../src/constants/errno.js';
import { errnoName } from '../../src/constants/errno-names.js';
import { addressOf, errno } from '../../src/linux/libc.js';
import { whenReadable, whenWritable } from '../../src/transport/readiness.js';
import type { Channel } from '../../src/worker/connection/channel.js';

const SIZE = 256 * 1024;

export class ChannelStream extends Duplex {
  readonly #channel: Channel;
  readonly #memory = new Uint8Array(new ArrayBuffer(SIZE));
  readonly #room: number;
  #forget: (() => void)[] = [];

  /** @param room bytes that are taken in one call */
  constructor(channel: Channel, room = SIZE) {
    super({ readableHighWaterMark: SIZE, writableHighWaterMark: SIZE });
    this.#channel = channel;
    this.#room = room;
  }

  override _read(): void {
    const chunks: Buffer[] = [];
    try {
      for (;;) {
        const count = this.#channel.receive(addressOf(this.#memory), this.#room);
        const error = count < 0 ? errno() : 0;
        if (count > 0) chunks.push(Buffer.from(this.#memory.subarray(0, count)));
        if (this.#channel.buffered) continue;
        if (this.#channel.unsent) this.#channel.flush();
        if (chunks.length > 0) this.push(Buffer.concat(chunks));
        else if (count === 0) this.push(null);
        else if (error === EAGAIN) this.#later(whenReadable, () => this._read());
        else throw new Error(errnoName(error));
        return;
      }
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    const fixed = new Uint8Array(new ArrayBuffer(chunk.length));
    fixed.set(chunk);
    this.#send(fixed, 0, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    for (const forget of this.#forget) forget();
    this.#channel.close();
    done(error);
  }

  /** Two parts per call, as header and payload. */
  #send(bytes: Uint8Array, from: number, done: (error?: Error | null) => void): void {
    let at = from;
    while (at < bytes.length || this.#channel.unsent) {
      if (this.destroyed) return;
      const [address, left] = [addressOf(bytes) + at, bytes.length - at];
      const first = Math.min(left, 28);
      const count =
        left === 0
          ? this.#channel.flush()
          : this.#channel.send(address, first, address + first, left - first, left > SIZE);
      if (count < 0) {
        const next = (): void => this.#send(bytes, at, done);
        if (errno() === EAGAIN) this.#later(whenWritable, next);
        else done(new Error(errnoName(errno())));
        return;
      }
      at += count;
    }
    done();
  }

  #later(when: typeof whenReadable, wake: () => void): void {
    this.#forget.push(when(this.#channel.descriptor, wake));
  }
}
