// The parts of an xz file that are not compressed: stream header, stream footer and index.
//
// Used by the decoder, which reads them on its way, and by the search for restart points, which reads them from the end.
// The names are those of the XZ file format, version 1.1.

import type { Damage } from '../contract/coding.js';
import { lzmaCrc32 } from './liblzma.js';

/** Bytes of a stream header, and of a stream footer. */
export const STREAM_HEADER = 12;
export const STREAM_FOOTER = 12;

/** Stream padding has a multiple of this many bytes, as all parts of a file. */
export const ALIGNMENT = 4;

const HEADER_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const FOOTER_MAGIC = [0x59, 0x5a];

/** Maximum bytes of an integer of variable length. */
const MAX_VARIABLE = 9;
/** Minimum unpadded bytes of a block. */
const MIN_UNPADDED = 5;

/** IDs of the checks that liblzma knows: none, CRC-32, CRC-64 and SHA-256. */
export const KNOWN_CHECKS: readonly number[] = [0, 1, 4, 10];
/** The warning about another check. */
export const UNKNOWN_CHECK = 'the integrity of the xz data cannot be checked: unknown type of check';

/** Bytes of a check, by its ID. */
export const checkLength = (check: number): number => (check === 0 ? 0 : 4 << Math.floor((check - 1) / 3));

/** `length` rounded up to the alignment. */
export const padded = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;

/** Makes the error for a part that is not well formed. */
export type Fail = (reason: Damage, message: string) => Error;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Whether the first `count` bytes can begin a stream. */
export function canBeStreamHeader(bytes: Uint8Array, count: number): boolean {
  const known = Math.min(count, HEADER_MAGIC.length);
  for (let at = 0; at < known; at++) if (bytes[at] !== HEADER_MAGIC[at]) return false;
  return true;
}

/** The ID of the check, from the stream flags at `offset`. */
function parseFlags(bytes: Uint8Array, offset: number, fail: Fail): number {
  if (bytes[offset] !== 0 || bytes[offset + 1] > 15) {
    throw fail('unsupported', 'the xz stream has flags that are not supported');
  }
  return bytes[offset + 1];
}

/** @returns the ID of the check. @throws what `fail` makes */
export function parseStreamHeader(bytes: Uint8Array, fail: Fail): number {
  if (!canBeStreamHeader(bytes, STREAM_HEADER)) throw fail('damaged', 'this is not an xz stream');
  const flags = bytes.subarray(6, 8);
  if (lzmaCrc32(flags) !== viewOf(bytes).getUint32(8, true)) {
    throw fail('damaged', 'the header of an xz stream is damaged');
  }
  return parseFlags(bytes, 6, fail);
}

/** Whether bytes end as a stream footer does. */
export const hasFooterMagic = (bytes: Uint8Array): boolean =>
  bytes[10] === FOOTER_MAGIC[0] && bytes[11] === FOOTER_MAGIC[1];

/** @throws what `fail` makes */
export function parseStreamFooter(bytes: Uint8Array, fail: Fail): { check: number; indexLength: number } {
  const view = viewOf(bytes);
  if (!hasFooterMagic(bytes) || lzmaCrc32(bytes.subarray(4, 10)) !== view.getUint32(0, true)) {
    throw fail('damaged', 'the footer of an xz stream is damaged');
  }
  return { check: parseFlags(bytes, 8, fail), indexLength: (view.getUint32(4, true) + 1) * ALIGNMENT };
}

type Place = 'indicator' | 'count' | 'unpadded' | 'uncompressed' | 'padding' | 'crc' | 'end';

/** Reads the index of a stream in parts of any length. */
export class IndexParser {
  readonly #onRecord: (unpadded: number, uncompressed: number) => void;
  readonly #fail: Fail;
  #place: Place = 'indicator';
  #value = 0;
  #valueLength = 0;
  #unpadded = 0;
  #recordsLeft = 0;
  #length = 0;
  #crc = 0;
  #storedCrc = 0;
  #crcLength = 0;

  /** @param onRecord is called for each block: its bytes without padding, and its decoded bytes */
  constructor(onRecord: (unpadded: number, uncompressed: number) => void, fail: Fail) {
    this.#onRecord = onRecord;
    this.#fail = fail;
  }

  /** Bytes of the index so far. */
  get length(): number {
    return this.#length;
  }

  get ended(): boolean {
    return this.#place === 'end';
  }

  /** @returns the number of bytes of the index. @throws what `fail` makes */
  feed(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && this.#place !== 'crc' && this.#place !== 'end') this.#next(bytes[at++]);
    this.#crc = lzmaCrc32(bytes.subarray(0, at), this.#crc);
    while (at < bytes.length && this.#place === 'crc') this.#nextOfCrc(bytes[at++]);
    return at;
  }

  #next(byte: number): void {
    this.#length++;
    if (this.#place === 'indicator') this.#place = 'count';
    else if (this.#place === 'padding') {
      if (byte !== 0) throw this.#damage();
      this.#pad();
    } else this.#nextOfNumber(byte);
  }

  #nextOfNumber(byte: number): void {
    this.#value += (byte & 0x7f) * 2 ** (7 * this.#valueLength++);
    if (byte > 0x7f) {
      if (this.#valueLength === MAX_VARIABLE) throw this.#damage();
      return;
    }
    const isWrong = (byte === 0 && this.#valueLength > 1) || this.#value > Number.MAX_SAFE_INTEGER;
    if (isWrong) throw this.#damage();
    const value = this.#value;
    this.#value = 0;
    this.#valueLength = 0;
    this.#use(value);
  }

  #use(value: number): void {
    switch (this.#place) {
      case 'count':
        this.#recordsLeft = value;
        break;
      case 'unpadded':
        if (value < MIN_UNPADDED) throw this.#damage();
        this.#unpadded = value;
        this.#place = 'uncompressed';
        return;
      default:
        this.#recordsLeft--;
        this.#onRecord(this.#unpadded, value);
    }
    if (this.#recordsLeft > 0) this.#place = 'unpadded';
    else this.#pad();
  }

  #pad(): void {
    this.#place = this.#length % ALIGNMENT === 0 ? 'crc' : 'padding';
  }

  #nextOfCrc(byte: number): void {
    this.#length++;
    this.#storedCrc += byte * 2 ** (8 * this.#crcLength++);
    if (this.#crcLength < 4) return;
    if (this.#storedCrc !== this.#crc) throw this.#damage();
    this.#place = 'end';
  }

  #damage(): Error {
    return this.#fail('damaged', 'the index of an xz stream is damaged');
  }
}
