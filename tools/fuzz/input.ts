// Decodes a test case into decisions.
//
// Used by the targets. After the last byte every number is 0, so that every prefix of a test case is a test
// case.

/** Reads a test case from its beginning. */
export class Input {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Bytes that are left. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#at < this.#bytes.length ? this.#bytes[this.#at++] : 0;
  }

  u16(): number {
    return (this.u8() << 8) | this.u8();
  }

  u32(): number {
    return this.u16() * 2 ** 16 + this.u16();
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** One of `some`, which is not empty. */
  pick<T>(some: readonly T[]): T {
    return some[this.u8() % some.length];
  }

  /** The next bytes, fewer where there are no more; a copy. */
  bytes(count: number): Uint8Array {
    // Buffer's own slice would share the memory.
    const taken = Uint8Array.from(this.#bytes.subarray(this.#at, this.#at + count));
    this.#at += taken.length;
    return taken;
  }

  /** All that is left; a copy. */
  rest(): Uint8Array {
    return this.bytes(this.left);
  }
}
