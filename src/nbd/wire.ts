// Encodes and decodes big-endian numbers and strings of handshake messages, which are whole in memory.
//
// The transmission phase has its own code, which allocates nothing.

import { NbdProtocolError } from './errors.js';

const encoder = new TextEncoder();

/** The UTF-8 encoding of a text. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Base of the code units that stand for invalid bytes in a name: lone surrogates, which no UTF-8 encodes. */
const STRAY_BYTE = 0xdc00;

/** Decodes a name so that `nameBytes` restores the same bytes, even if they are not UTF-8. */
export function nameFrom(bytes: Uint8Array): string {
  const decode = (part: Uint8Array): string | undefined => {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(part);
    } catch {
      return undefined;
    }
  };
  const whole = decode(bytes);
  if (whole !== undefined) return whole;
  let name = '';
  for (let at = 0; at < bytes.length; ) {
    const length = [1, 2, 3, 4].find((count) => decode(bytes.subarray(at, at + count)) !== undefined);
    name +=
      length === undefined
        ? String.fromCharCode(STRAY_BYTE + bytes[at])
        : decode(bytes.subarray(at, at + length));
    at += length ?? 1;
  }
  return name;
}

/** Encodes a name as UTF-8, and restores the invalid bytes that `nameFrom` found. */
export function nameBytes(name: string): Uint8Array {
  if (!/\p{Cs}/u.test(name)) return utf8(name);
  const parts = [...name].map((character) => {
    const code = character.codePointAt(0) ?? 0;
    return code >= STRAY_BYTE + 0x80 && code <= STRAY_BYTE + 0xff
      ? Uint8Array.of(code - STRAY_BYTE)
      : utf8(character);
  });
  return concat(...parts);
}

export function u16(value: number): Uint8Array {
  const bytes = new Uint8Array(2);
  new DataView(bytes.buffer).setUint16(0, value);
  return bytes;
}

export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

export function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

/** Concatenates the parts. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Reads the fields of a message; `what` names the message in the error if it is too short. */
export class WireReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  #advance(count: number): number {
    const at = this.#at;
    if (count > this.#bytes.length - at) {
      throw new NbdProtocolError(`${this.#what} of ${this.#bytes.length} bytes is too short for its fields`);
    }
    this.#at = at + count;
    return at;
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  /** The next `count` bytes, in the memory of the message. */
  bytes(count: number): Uint8Array {
    const at = this.#advance(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** The remaining bytes, in the memory of the message. */
  rest(): Uint8Array {
    return this.bytes(this.#bytes.length - this.#at);
  }
}
