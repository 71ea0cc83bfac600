// Decodes bzip2: one or more streams, as `bzip2 -dc` does. Decoding can restart at streams and at their blocks.
//
// A block begins at any bit, and libbz2 does not say where. So the decoder searches for the magic numbers of blocks and
// gives libbz2 the bits before one of them. If libbz2 then has written bytes and wants more input, the block is
// complete, and its checksum is right: libbz2 writes nothing before it has all bits of a block. If it has written
// nothing, the magic number was part of the block's data.
//
// To restart at a block, the decoder gives libbz2 a stream's header and the bits of the block and of all that follows,
// shifted to the left. The checksum of such a stream cannot be checked; the decoder itself skips it.

import { addressOf } from '../../linux/libc.js';
import type { DecodeError, RestartPoint } from '../contract/coding.js';
import { Bzip2Scanner, MAGIC_BITS } from './bzip2-scanner.js';
import { openLibrary } from './native.js';
import { STOPPED, StepDecoder } from './step-decoder.js';

/** "BZh", and a digit for the size of blocks. */
const STREAM_HEADER = [0x42, 0x5a, 0x68];
const HEADER_LENGTH = 4;
const [FIRST_LEVEL, LAST_LEVEL] = [0x31, 0x39];

/** Bits of the end of a stream: magic number and checksum. It is filled up to a byte. */
const TRAILER_BITS = MAGIC_BITS + 32;

/** Results of libbz2. */
const BZ_STREAM_END = 4;
const BZ_MEM_ERROR = -3;

/** Indexes in a bz_stream, in words of 32 bits. */
const NEXT_IN = 0;
const AVAIL_IN = 2;
const NEXT_OUT = 6;
const AVAIL_OUT = 8;
const BZ_STREAM_LENGTH = 80;

/** Bytes that are shifted at once. */
const SHIFT_LENGTH = 65536;

function load() {
  const library = openLibrary('libbz2.so.1.0');
  return {
    init: library.func('BZ2_bzDecompressInit', 'int', ['size_t', 'int', 'int']),
    decompress: library.func('BZ2_bzDecompress', 'int', ['size_t']),
    end: library.func('BZ2_bzDecompressEnd', 'int', ['size_t']),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;

class Bzip2Decoder extends StepDecoder {
  readonly #library: ReturnType<typeof load>;
  readonly #stream = new Uint32Array(new ArrayBuffer(BZ_STREAM_LENGTH));
  readonly #streamAddress = addressOf(this.#stream);
  readonly #scanner = new Bzip2Scanner();
  #place: 'header' | 'blocks' | 'trailer' = 'header';
  /** Whether libbz2 has memory that it must free. */
  #isOpen = false;
  /** Whether a stream has ended: then other bytes than a stream's are garbage that does not matter. */
  #anyStream: boolean;
  /** Offset in bits of the first block of this stream that libbz2 gets; and its digit. */
  #firstBit = 0;
  #level = 0;
  /** Whether decoding began inside this stream. */
  #isPartial = false;
  /** Bytes of this stream that libbz2 has got, from `firstBit` on. */
  #given = 0;
  /** Whether the last call filled the output, so that libbz2 may have more. */
  #flushing = false;
  /** Whether libbz2 has written bytes of the current block. */
  #hasWritten = false;
  #verified: number;
  /** The end of this stream, an offset in bytes. */
  #streamEnd = 0;
  /** Damage that libbz2 found behind bytes which it has written. */
  #late: DecodeError | undefined;
  /** Shifted bytes; only a partial stream needs them. */
  #shifted: Uint8Array | undefined;

  constructor(from: RestartPoint, spacing: number) {
    super(from, spacing);
    loaded ??= load();
    this.#library = loaded;
    this.#verified = from.out;
    this.#anyStream = from.out > 0;
    if (from.state === undefined) return;
    this.#isPartial = true;
    this.header.set(STREAM_HEADER);
    this.header[HEADER_LENGTH - 1] = from.state[1];
    this.#open(from.in * 8 + from.state[0]);
  }

  get verified(): number {
    return this.#verified;
  }

  close(): void {
    if (this.#isOpen) this.#library.end(this.#streamAddress);
    this.#isOpen = false;
  }

  protected step(address: number, room: number): number {
    if (this.#late !== undefined) throw this.#late;
    switch (this.#place) {
      case 'header':
        return this.#beginStream();
      case 'blocks':
        return this.#decodeBlocks(address, room);
      case 'trailer':
        return this.#skipTrailer();
    }
  }

  #beginStream(): number {
    if (this.gathered === 0) {
      if (this.input.isEmpty && this.input.isLast && this.#anyStream) return this.end();
      this.points.offer(this.input.position, this.out);
    }
    const isWhole = this.gather(HEADER_LENGTH);
    if (!this.#canBeHeader()) {
      if (this.#anyStream) return this.end('trailing garbage after the bzip2 data ignored');
      throw this.failure('damaged', 'this is not bzip2 data');
    }
    if (!isWhole) return this.starve();
    this.gathered = 0;
    this.#isPartial = false;
    this.#open(this.input.position * 8);
    return 0;
  }

  #canBeHeader(): boolean {
    for (let index = 0; index < Math.min(this.gathered, STREAM_HEADER.length); index++) {
      if (this.header[index] !== STREAM_HEADER[index]) return false;
    }
    if (this.gathered < HEADER_LENGTH) return true;
    const level = this.header[HEADER_LENGTH - 1];
    return level >= FIRST_LEVEL && level <= LAST_LEVEL;
  }

  /** Gives libbz2 the header; the first block begins at `firstBit`. */
  #open(firstBit: number): void {
    this.#stream.fill(0);
    const result = this.#library.init(this.#streamAddress, 0, 0);
    if (result !== 0) throw this.failure('memory', 'not enough memory for bzip2');
    this.#isOpen = true;
    this.#level = this.header[HEADER_LENGTH - 1];
    this.#firstBit = firstBit;
    this.#given = 0;
    this.#hasWritten = false;
    this.#flushing = false;
    this.#scanner.restart(firstBit);
    this.#place = 'blocks';
    const status = this.#decompress(this.headerAddress, HEADER_LENGTH, this.headerAddress, 0);
    if (status < 0) throw this.#libraryFailure(status);
  }

  #decodeBlocks(address: number, room: number): number {
    if (this.#scanner.bit < 0) this.#scanner.next(this.input.chunks);
    const limit = this.#limit();
    const length = this.#flushing ? 0 : limit - this.#given;
    if (length === 0 && !this.#flushing && this.#scanner.bit < 0) {
      if (this.input.isLast) throw this.failure('truncated', 'the bzip2 data ends too early');
      return STOPPED;
    }
    const isShifted = this.#firstBit % 8 !== 0;
    const source = length === 0 ? 0 : isShifted ? this.#shift(length) : Math.min(length, this.input.length);
    const from = isShifted ? this.#shiftedAddress() : source === 0 ? 0 : this.input.address;
    const status = this.#decompress(from, source, address, room);
    const used = source - this.#stream[AVAIL_IN];
    this.input.consume(used);
    this.#given += used;
    const made = room - this.#stream[AVAIL_OUT];
    this.#flushing = made === room;
    if (made > 0) this.#hasWritten = true;
    if (status < 0) {
      this.#late = this.#libraryFailure(status);
      if (made === 0) throw this.#late;
    } else if (status === BZ_STREAM_END) this.#endStream(this.out + made);
    else if (!this.#flushing && this.#given === limit && this.#scanner.bit >= 0)
      this.#passMagic(this.out + made);
    return made;
  }

  /** The bytes that libbz2 may have of this stream: to the next magic number, or before the bits that can be part of one. */
  #limit(): number {
    const { bit } = this.#scanner;
    if (bit >= 0) return Math.ceil((bit - this.#firstBit) / 8);
    const unknown = this.input.isLast ? 0 : MAGIC_BITS - 1;
    return Math.max(this.#given, Math.floor((this.input.end * 8 - unknown - this.#firstBit) / 8));
  }

  /** libbz2 wants the bits from a magic number on. @param out offset of the next decoded byte */
  #passMagic(out: number): void {
    const { bit, isEnd } = this.#scanner;
    if (this.#hasWritten) {
      this.#hasWritten = false;
      this.#verified = out;
      if (!isEnd) this.points.offer(Math.floor(bit / 8), out, Uint8Array.of(bit % 8, this.#level));
      else if (this.#isPartial) {
        this.close();
        this.#streamEnd = Math.ceil((bit + TRAILER_BITS) / 8);
        this.#place = 'trailer';
        return;
      }
    }
    this.#scanner.next(this.input.chunks);
  }

  #endStream(out: number): void {
    this.close();
    this.#verified = out;
    this.#anyStream = true;
    this.#flushing = false;
    this.#place = 'header';
  }

  #skipTrailer(): number {
    const left = this.#streamEnd - this.input.position;
    if (left > 0 && this.input.isEmpty) return this.starve();
    this.input.consume(Math.min(left, this.input.length));
    if (this.input.position === this.#streamEnd) this.#endStream(this.out);
    return 0;
  }

  /** Shifts at most `length` of the next bytes, so that the first bit of a block is the first of a byte. @returns their number */
  #shift(length: number): number {
    const [first, second] = this.input.chunks;
    const { bytes, start } = first;
    const from = this.input.position - start;
    const left = this.#firstBit % 8;
    this.#shifted ??= new Uint8Array(new ArrayBuffer(SHIFT_LENGTH));
    const whole = Math.min(length, bytes.length - from - 1, SHIFT_LENGTH);
    if (whole <= 0) {
      this.#shifted[0] = (bytes[from] << left) | (second.bytes[0] >> (8 - left));
      return 1;
    }
    for (let index = 0; index < whole; index++) {
      this.#shifted[index] = (bytes[from + index] << left) | (bytes[from + index + 1] >> (8 - left));
    }
    return whole;
  }

  #shiftedAddress(): number {
    return this.#shifted === undefined ? 0 : addressOf(this.#shifted);
  }

  #decompress(source: number, length: number, target: number, room: number): number {
    const stream = this.#stream;
    stream[NEXT_IN] = source % 2 ** 32;
    stream[NEXT_IN + 1] = Math.floor(source / 2 ** 32);
    stream[AVAIL_IN] = length;
    stream[NEXT_OUT] = target % 2 ** 32;
    stream[NEXT_OUT + 1] = Math.floor(target / 2 ** 32);
    stream[AVAIL_OUT] = room;
    return this.#library.decompress(this.#streamAddress);
  }

  #libraryFailure(status: number): DecodeError {
    if (status === BZ_MEM_ERROR) return this.failure('memory', 'not enough memory for bzip2');
    return this.failure('damaged', 'the bzip2 data is damaged', this.#verified);
  }
}

/** @throws DecodeError if there is not enough memory, Error without libbz2 */
export const createBzip2Decoder = (from: RestartPoint, spacing: number): StepDecoder =>
  new Bzip2Decoder(from, spacing);
