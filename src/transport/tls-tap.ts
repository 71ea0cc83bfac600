// A stream between a TLS session and its socket, so that the session can be taken over later on.
//
// Made by tls.ts where that is wanted. Passes everything through unchanged, and remembers the last record each way.
// Owns the stream below it.

import { Duplex } from 'node:stream';
import { RecordWatcher } from '../tls/record-watcher.js';

/** Bytes that may wait in the tap each way. */
const HIGH_WATER_MARK = 256 * 1024;

/** See the file's head. */
export class TlsTap extends Duplex {
  readonly received = new RecordWatcher();
  readonly sent = new RecordWatcher();
  readonly below: Duplex;
  #watching = true;
  #silent = false;

  constructor(below: Duplex) {
    super({ readableHighWaterMark: HIGH_WATER_MARK, writableHighWaterMark: HIGH_WATER_MARK });
    this.below = below;
    below.on('data', (chunk: Buffer) => {
      if (this.#watching) this.received.see(chunk);
      if (!this.push(chunk)) below.pause();
    });
    below.on('end', () => this.push(null));
    below.on('error', (error) => this.destroy(error));
    below.on('close', () => this.destroy());
    below.resume();
  }

  /** Whether the tap has bytes that the session, or the socket, has not received yet. */
  get busy(): boolean {
    const { readableLength, writableLength } = this.below;
    return readableLength + writableLength + this.readableLength + this.writableLength > 0;
  }

  /** Stops watching records, which takes time: the session will not be taken over. */
  stopWatching(): void {
    this.#watching = false;
  }

  /** From now on nothing is written to the socket. */
  silence(): void {
    this.#silent = true;
  }

  override _read(): void {
    this.below.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#silent) {
      done();
      return;
    }
    if (this.#watching) this.sent.see(chunk);
    this.below.write(chunk, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.below.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.below.destroy();
    done(error);
  }
}
