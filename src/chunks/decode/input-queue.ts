// The compressed bytes that a decoder has been given and has not decoded yet. Nothing is copied.

import { addressOf } from '../../linux/libc.js';
import { pinned } from '../../linux/libcrypto.js';

/** Bytes of the file, in the order of pushing. */
export interface QueuedBytes {
  /** Offset of the first byte in the file. */
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** The garbage collector moves arrays up to this length. */
const MOVABLE = 64;
/** Bytes that are copied one by one, as a view for them would cost more. */
const SHORT = 32;

/** See the file's head. */
export class InputQueue {
  readonly #chunks: QueuedBytes[] = [];
  /** Address of the first chunk's first byte; 0: not asked for yet. */
  #address = 0;
  /** Offset of the next byte that nobody has consumed. */
  #position: number;
  /** Offset behind the last byte that was pushed. */
  #end: number;
  #isLast = false;

  constructor(start: number) {
    this.#position = start;
    this.#end = start;
  }

  get position(): number {
    return this.#position;
  }

  get end(): number {
    return this.#end;
  }

  /** Whether the file ends at `end`. */
  get isLast(): boolean {
    return this.#isLast;
  }

  get isEmpty(): boolean {
    return this.#position === this.#end;
  }

  /** The chunks that hold the bytes from `position` on, and perhaps some before it. */
  get chunks(): readonly QueuedBytes[] {
    return this.#chunks;
  }

  push(bytes: Uint8Array, isLast: boolean): void {
    this.#isLast ||= isLast;
    if (bytes.length === 0) return;
    this.#chunks.push({ start: this.#end, bytes: bytes.length > MOVABLE ? bytes : pinned(bytes) });
    this.#end += bytes.length;
  }

  /** The number of bytes that lie at `address`, without a gap. */
  get length(): number {
    return this.#chunks.length === 0
      ? 0
      : this.#chunks[0].start + this.#chunks[0].bytes.length - this.#position;
  }

  /** Address of the next byte; valid until it is consumed. */
  get address(): number {
    const { start, bytes } = this.#chunks[0];
    if (this.#address === 0) this.#address = addressOf(bytes);
    return this.#address + (this.#position - start);
  }

  /** Drops `count` bytes, at most `length`. */
  consume(count: number): void {
    this.#position += count;
    if (count > 0 && this.length === 0) {
      this.#chunks.shift();
      this.#address = 0;
    }
  }

  /** Moves at most `count` bytes to `target`, which begins at `offset`. @returns their number */
  take(target: Uint8Array, offset: number, count: number): number {
    let done = 0;
    while (done < count && !this.isEmpty) {
      const { start, bytes } = this.#chunks[0];
      const from = this.#position - start;
      const part = Math.min(count - done, this.length);
      if (part > SHORT) target.set(bytes.subarray(from, from + part), offset + done);
      else for (let at = 0; at < part; at++) target[offset + done + at] = bytes[from + at];
      this.consume(part);
      done += part;
    }
    return done;
  }

  /** Forgets all bytes. */
  clear(): void {
    this.#chunks.length = 0;
    this.#position = this.#end;
    this.#address = 0;
  }
}
