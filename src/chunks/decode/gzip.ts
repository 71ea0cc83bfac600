// Decoders of gzip and of raw deflate data (RFC 1952, RFC 1951) with zlib's inflate.
//
// The members' headers and trailers are read here, since a restart point lies in the middle of a member: its state has
// the check so far, the bits of an incomplete byte, and the last 32 KiB.

import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { addressOf } from '../../linux/libc.js';
import type { DecodeError, RestartPoint } from '../contract/coding.js';
import { openLibrary } from './native.js';
import { STOPPED, StepDecoder } from './step-decoder.js';

/** Bytes and fields of struct z_stream on machines of 64 bits. */
const Z_STREAM = 112;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;
const DATA_TYPE = 88;

const Z_NO_FLUSH = 0;
const Z_BLOCK = 5;
const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_DATA_ERROR = -3;
const Z_MEM_ERROR = -4;
const Z_BUF_ERROR = -5;
/** Of `data_type`: inflate stopped behind a block; that block was the last; unused bits of the last byte. */
const AT_BLOCK = 128;
const IN_LAST_BLOCK = 64;
const UNUSED_BITS = 7;

/** Raw deflate data with a window of 32 KiB. */
const RAW = -15;
const WINDOW = 32 * 1024;
const MOST_AT_ONCE = 1 << 30;

/** Flags of a member. */
const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;
const RESERVED = 0xe0;
const FIXED_HEADER = 10;
const TRAILER = 8;
const DEFLATED = 8;

function load() {
  const library = openLibrary('libz.so.1');
  return {
    version: library.func('zlibVersion', 'str', []),
    init: library.func('inflateInit2_', 'int', ['size_t', 'int', 'str', 'int']),
    inflate: library.func('inflate', 'int', ['size_t', 'int']),
    end: library.func('inflateEnd', 'int', ['size_t']),
    reset: library.func('inflateReset', 'int', ['size_t']),
    prime: library.func('inflatePrime', 'int', ['size_t', 'int', 'int']),
    setDictionary: library.func('inflateSetDictionary', 'int', ['size_t', 'size_t', 'unsigned int']),
    getDictionary: library.func('inflateGetDictionary', 'int', ['size_t', 'size_t', 'size_t']),
    crc32: library.func('crc32', 'unsigned long', ['unsigned long', 'size_t', 'unsigned int']),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;
const zlib = (): ReturnType<typeof load> => {
  loaded ??= load();
  return loaded;
};

/** The CRC-32 of bytes in memory, which follow others with the CRC-32 `crc`. */
export const crc32At = (crc: number, address: number, length: number): number =>
  Number(zlib().crc32(crc, address, length));

/** The state of a restart point in the middle of a member. */
interface MemberState {
  readonly bits: number;
  readonly value: number;
  readonly crc: number;
  /** Decoded bytes of the member, modulo 2^32. */
  readonly length: number;
  readonly window: Uint8Array;
}

const STATE_HEAD = 11;

function encodeState({ bits, value, crc, length, window }: MemberState): Uint8Array {
  const packed = deflateRawSync(window, { level: 1 });
  const isPacked = packed.length < window.length;
  const body = isPacked ? packed : window;
  const state = new Uint8Array(STATE_HEAD + body.length);
  const view = new DataView(state.buffer);
  state.set([bits, value, isPacked ? 1 : 0]);
  view.setUint32(3, crc, true);
  view.setUint32(7, length, true);
  state.set(body, STATE_HEAD);
  return state;
}

function decodeState(state: Uint8Array): MemberState {
  const view = new DataView(state.buffer, state.byteOffset, state.byteLength);
  const [bits, value, isPacked] = state;
  const body = state.subarray(STATE_HEAD);
  const window = isPacked === 1 ? inflateRawSync(body, { maxOutputLength: WINDOW }) : body;
  return { bits, value, crc: view.getUint32(3, true), length: view.getUint32(7, true), window };
}

/** Where the decoder is in a member. */
type Phase =
  | 'first header'
  | 'next header'
  | 'extra'
  | 'text'
  | 'header check'
  | 'data'
  | 'trailer'
  | 'zeros';

class GzipDecoder extends StepDecoder {
  readonly #stream = new Uint8Array(new ArrayBuffer(Z_STREAM));
  readonly #view = new DataView(this.#stream.buffer);
  readonly #address = addressOf(this.#stream);
  readonly #isRaw: boolean;
  readonly #spacing: number;
  #phase: Phase;
  /** Flags of the header whose fields are still to come. */
  #flags = 0;
  #extra = -1;
  #headerCrc = 0;
  #crc = 0;
  #length = 0;
  #lastByte = 0;
  #lastPoint: number;
  #verified: number;
  /** An error that comes behind bytes which were decoded before it. */
  #late: DecodeError | undefined;
  #isClosed = false;

  constructor(isRaw: boolean, from: RestartPoint, spacing: number) {
    super(from, spacing);
    this.#isRaw = isRaw;
    this.#spacing = spacing;
    this.#lastPoint = from.out;
    this.#verified = from.out;
    this.#phase = isRaw ? 'data' : 'first header';
    const result = zlib().init(this.#address, RAW, zlib().version(), Z_STREAM);
    if (result !== Z_OK) throw this.failure('memory', 'zlib cannot start');
    if (from.state !== undefined) this.#restore(decodeState(from.state));
    else if (from.out > 0 && !isRaw) this.#phase = 'next header';
  }

  get verified(): number {
    return this.#verified;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    zlib().end(this.#address);
  }

  protected step(address: number, room: number): number {
    if (this.#late !== undefined) throw this.#late;
    switch (this.#phase) {
      case 'data':
        return this.#inflate(address, Math.min(room, MOST_AT_ONCE));
      case 'trailer':
        return this.#readTrailer();
      case 'zeros':
        return this.#skipZeros();
      default:
        return this.#readHeader();
    }
  }

  #restore({ bits, value, crc, length, window }: MemberState): void {
    this.#phase = 'data';
    this.#crc = crc;
    this.#length = length;
    if (bits > 0) zlib().prime(this.#address, bits, value);
    const dictionary = new Uint8Array(new ArrayBuffer(WINDOW));
    dictionary.set(window);
    zlib().setDictionary(this.#address, addressOf(dictionary), window.length);
  }

  #put(field: number, address: number): void {
    this.#view.setUint32(field, address % 2 ** 32, true);
    this.#view.setUint32(field + 4, Math.floor(address / 2 ** 32), true);
  }

  #inflate(address: number, room: number): number {
    if (this.input.isEmpty) {
      if (!this.input.isLast) return STOPPED;
      // Bits may be left in zlib.
      const made = this.#inflateWith(0, 0, address, room);
      return made > 0 || this.#phase !== 'data' ? made : this.starve();
    }
    return this.#inflateWith(this.input.address, Math.min(this.input.length, MOST_AT_ONCE), address, room);
  }

  #inflateWith(from: number, available: number, address: number, room: number): number {
    const view = this.#view;
    this.#put(NEXT_IN, from);
    view.setUint32(AVAIL_IN, available, true);
    this.#put(NEXT_OUT, address);
    view.setUint32(AVAIL_OUT, room, true);
    // A stop at each block would cost time, so only when a point is due.
    const isDue = this.out - this.#lastPoint + room >= this.#spacing;
    const result = zlib().inflate(this.#address, isDue ? Z_BLOCK : Z_NO_FLUSH);
    const consumed = available - view.getUint32(AVAIL_IN, true);
    const made = room - view.getUint32(AVAIL_OUT, true);
    if (consumed > 0) {
      const [{ start, bytes }] = this.input.chunks;
      this.#lastByte = bytes[this.input.position - start + consumed - 1];
      this.input.consume(consumed);
    }
    if (made > 0) {
      if (!this.#isRaw) this.#crc = crc32At(this.#crc, address, made);
      this.#length = (this.#length + made) >>> 0;
    }
    if (result === Z_STREAM_END) this.#endData(made);
    else if (result === Z_DATA_ERROR)
      this.#late = this.failure('damaged', 'the compressed data are damaged', this.out + made);
    else if (result === Z_MEM_ERROR) throw this.failure('memory', 'zlib has not enough memory');
    else if (result !== Z_OK && result !== Z_BUF_ERROR)
      this.#late = this.failure('damaged', 'the compressed data need a dictionary', this.out + made);
    else if (isDue) this.#offerPoint(this.out + made);
    if (made === 0 && this.#late !== undefined) throw this.#late;
    return made;
  }

  #offerPoint(out: number): void {
    const type = this.#view.getUint32(DATA_TYPE, true);
    if ((type & AT_BLOCK) === 0 || (type & IN_LAST_BLOCK) !== 0 || out - this.#lastPoint < this.#spacing)
      return;
    const bits = type & UNUSED_BITS;
    const window = new Uint8Array(new ArrayBuffer(WINDOW));
    const length = new Uint32Array(new ArrayBuffer(4));
    zlib().getDictionary(this.#address, addressOf(window), addressOf(length));
    const value = bits === 0 ? 0 : this.#lastByte >> (8 - bits);
    const [crc, size] = [this.#crc, this.#length];
    const state = encodeState({ bits, value, crc, length: size, window: window.subarray(0, length[0]) });
    this.points.offer(this.input.position, out, state);
    this.#lastPoint = out;
  }

  #endData(made: number): void {
    zlib().reset(this.#address);
    if (!this.#isRaw) {
      this.#phase = 'trailer';
      return;
    }
    this.#verified = this.out + made;
    this.#phase = 'zeros';
  }

  #readTrailer(): number {
    if (!this.gather(TRAILER)) return this.starve();
    this.gathered = 0;
    const view = new DataView(this.header.buffer);
    if (view.getUint32(0, true) !== this.#crc)
      throw this.failure('damaged', 'the CRC of the data is wrong', this.#verified);
    if (view.getUint32(4, true) !== this.#length)
      throw this.failure('damaged', 'the length of the data is wrong', this.#verified);
    this.#crc = 0;
    this.#length = 0;
    this.#verified = this.out;
    this.#phase = 'next header';
    return 0;
  }

  /** Ignores zeros after the members silently, as gzip does. */
  #skipZeros(): number {
    if (this.#isRaw) return this.end();
    while (!this.input.isEmpty) {
      this.input.take(this.header, 0, 1);
      if (this.header[0] !== 0) return this.end('trailing garbage is ignored');
    }
    return this.input.isLast ? this.end() : STOPPED;
  }

  /** Reads the next part of a header. */
  #readHeader(): number {
    switch (this.#phase) {
      case 'first header':
      case 'next header':
        return this.#readFixed();
      case 'extra':
        return this.#skipExtra();
      case 'text':
        return this.#skipText();
      default:
        return this.#checkHeader();
    }
  }

  #readFixed(): number {
    const isFirst = this.#phase === 'first header';
    if (!this.gather(2)) return this.#atEnd(isFirst);
    if (this.header[0] !== 0x1f || this.header[1] !== 0x8b) {
      if (isFirst) throw this.failure('damaged', 'it is not a gzip file');
      return this.#takeGarbage();
    }
    if (!this.gather(FIXED_HEADER)) return this.starve();
    this.gathered = 0;
    const [, , method, flags] = this.header;
    if (method !== DEFLATED) throw this.failure('unsupported', `its compression method ${method} is unknown`);
    if ((flags & RESERVED) !== 0) throw this.failure('unsupported', 'it has unknown flags');
    // At the beginning of a member nothing of the past is needed.
    const start = this.input.position - FIXED_HEADER;
    if (this.out - this.#lastPoint >= this.#spacing) {
      this.points.offer(start, this.out);
      this.#lastPoint = this.out;
    }
    this.#headerCrc = crc32At(0, this.headerAddress, FIXED_HEADER);
    this.#flags = flags;
    this.#extra = -1;
    this.#nextField();
    return 0;
  }

  /** The file ends where a header could begin. */
  #atEnd(isFirst: boolean): number {
    if (!this.input.isLast) return STOPPED;
    if (isFirst) throw this.failure('truncated', 'the file ends too early');
    // One byte cannot be a member.
    return this.gathered === 1 ? this.#takeGarbage() : this.end();
  }

  #takeGarbage(): number {
    const isZero = this.header.subarray(0, this.gathered).every((byte) => byte === 0);
    const isGarbage = this.header[0] !== 0 || !isZero;
    this.gathered = 0;
    if (isGarbage) return this.end('trailing garbage is ignored');
    this.#phase = 'zeros';
    return 0;
  }

  #nextField(): void {
    if ((this.#flags & FEXTRA) !== 0) this.#phase = 'extra';
    else if ((this.#flags & (FNAME | FCOMMENT)) !== 0) this.#phase = 'text';
    else if ((this.#flags & FHCRC) !== 0) this.#phase = 'header check';
    else this.#phase = 'data';
  }

  #skipExtra(): number {
    if (this.#extra < 0) {
      if (!this.gather(2)) return this.starve();
      this.gathered = 0;
      this.#headerCrc = crc32At(this.#headerCrc, this.headerAddress, 2);
      this.#extra = this.header[0] + this.header[1] * 256;
    }
    while (this.#extra > 0) {
      const count = this.input.take(this.header, 0, Math.min(this.#extra, this.header.length));
      if (count === 0) return this.starve();
      this.#headerCrc = crc32At(this.#headerCrc, this.headerAddress, count);
      this.#extra -= count;
    }
    this.#flags &= ~FEXTRA;
    this.#nextField();
    return 0;
  }

  /** Skips the name or the comment, each up to a zero byte. */
  #skipText(): number {
    for (;;) {
      if (this.input.take(this.header, 0, 1) === 0) return this.starve();
      this.#headerCrc = crc32At(this.#headerCrc, this.headerAddress, 1);
      if (this.header[0] === 0) break;
    }
    this.#flags &= (this.#flags & FNAME) !== 0 ? ~FNAME : ~FCOMMENT;
    this.#nextField();
    return 0;
  }

  #checkHeader(): number {
    if (!this.gather(2)) return this.starve();
    this.gathered = 0;
    if (this.header[0] + this.header[1] * 256 !== (this.#headerCrc & 0xffff))
      throw this.failure('damaged', 'the CRC of a header is wrong');
    this.#flags = 0;
    this.#phase = 'data';
    return 0;
  }
}

/** A decoder of gzip. */
export const createGzipDecoder = (from: RestartPoint, spacing: number): GzipDecoder =>
  new GzipDecoder(false, from, spacing);

/** A decoder of raw deflate data. */
export const createDeflateDecoder = (from: RestartPoint, spacing: number): GzipDecoder =>
  new GzipDecoder(true, from, spacing);
