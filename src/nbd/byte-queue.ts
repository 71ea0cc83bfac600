// A queue of received bytes, taken out as whole messages.
//
// Owned by the handshake. Copies the pushed bytes.

const SMALLEST = 256;

/** A first-in, first-out queue of bytes. */
export class ByteQueue {
  #bytes = new Uint8Array(SMALLEST);
  #start = 0;
  #end = 0;

  /** Bytes in the queue. */
  get length(): number {
    return this.#end - this.#start;
  }

  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#bytes.length) this.#makeRoom(bytes.length);
    this.#bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** Removes the first `count` bytes, 0 to `length`, and returns a copy of them. */
  take(count: number): Uint8Array {
    const taken = this.#bytes.slice(this.#start, this.#start + count);
    this.#start += count;
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
    }
    return taken;
  }

  #makeRoom(count: number): void {
    const waiting = this.length;
    const needed = waiting + count;
    const target =
      needed > this.#bytes.length ? new Uint8Array(Math.max(needed, 2 * this.#bytes.length)) : this.#bytes;
    target.set(this.#bytes.subarray(this.#start, this.#end));
    this.#bytes = target;
    this.#start = 0;
    this.#end = waiting;
  }
}
