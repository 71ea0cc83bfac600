// Big-endian numbers and strings of the cold paths: the handshake's messages, whole in memory.
//
// Called by the option codec. Nothing here blocks or keeps the bytes it is given. The transmission
// phase has readers of its own, which allocate nothing.

import { NbdProtocolError } from './errors.js';

const encoder = new TextEncoder();

/** The bytes of a text in UTF-8. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Where a byte that is no UTF-8 stands in a name: half a surrogate pair, which no UTF-8 can mean. */
const STRAY_BYTE = 0xdc00;

/** A name as text from which `nameBytes` makes the same bytes again, whatever they are. */
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

/** The bytes of a name: UTF-8, but for what `nameFrom` found to be none. */
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

/** One array of all the parts, in order. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Reads the fields of one whole message; `what` names it when it is too short for them. */
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

  /** The next `count` bytes; they share memory with the message. */
  bytes(count: number): Uint8Array {
    const at = this.#advance(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** All bytes that are left; they share memory with the message. */
  rest(): Uint8Array {
    return this.bytes(this.#bytes.length - this.#at);
  }
}
