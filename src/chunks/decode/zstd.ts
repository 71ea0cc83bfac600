// Decodes zstd: frames and skippable frames, as `zstd -dc` does. Decoding can restart at frames.
//
// The decoder reads the headers of blocks and gives libzstd one block at a time: libzstd does not say how much it has
// decoded when it finds damage, and would hide the blocks before it. RFC 8878 has the format.

import { addressOf } from '../../linux/libc.js';
import type { RestartPoint } from '../contract/coding.js';
import { LaterPlace } from './later-place.js';
import { openLibrary } from './native.js';
import { StepDecoder } from './step-decoder.js';

const MAGIC = 0xfd2fb528;
/** The last four bits of a skippable frame's magic number are free. */
const SKIPPABLE_MAGIC = 0x184d2a50;
const MAGIC_LENGTH = 4;
const BLOCK_HEADER_LENGTH = 3;
const CHECKSUM_LENGTH = 4;

/** Bits of a frame header's descriptor, behind the magic number. */
const HAS_CHECKSUM = 1 << 2;
const SINGLE_SEGMENT = 1 << 5;
/** Bytes of the optional fields, by their codes in the descriptor. */
const DICTIONARY_ID_LENGTHS = [0, 1, 2, 4];
const CONTENT_SIZE_LENGTHS = [0, 2, 4, 8];

const BLOCK_RLE = 1;

/** The largest window that `zstd -dc` accepts without an option: 128 MiB. */
const MAX_WINDOW_LOG = 27;
const PARAMETER_WINDOW_LOG_MAX = 100;

/** Error codes of zstd_errors.h. */
const UNSUPPORTED: readonly number[] = [12, 14, 32];
const OUT_OF_MEMORY: readonly number[] = [16, 64];

function load() {
  const library = openLibrary('libzstd.so.1');
  return {
    create: library.func('ZSTD_createDStream', 'size_t', []),
    free: library.func('ZSTD_freeDStream', 'long', ['size_t']),
    setParameter: library.func('ZSTD_DCtx_setParameter', 'long', ['size_t', 'int', 'int']),
    decompress: library.func('ZSTD_decompressStream', 'long', ['size_t', 'size_t', 'size_t']),
    errorText: library.func('ZSTD_getErrorString', 'str', ['int']),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;

type Place = 'frame' | 'block-header' | 'block' | 'checksum' | 'skippable';

/** Indexes of the numbers of 64 bits in a ZSTD_inBuffer and the ZSTD_outBuffer behind it, in words of 32 bits. */
const SOURCE = 0;
const TARGET = 6;
const LENGTH = 2;
const POSITION = 4;

/** The bytes of a frame's header, magic number included. */
function frameHeaderLength(descriptor: number): number {
  const single = (descriptor & SINGLE_SEGMENT) !== 0;
  const contentSize = descriptor >> 6 === 0 && single ? 1 : CONTENT_SIZE_LENGTHS[descriptor >> 6];
  return MAGIC_LENGTH + 1 + (single ? 0 : 1) + DICTIONARY_ID_LENGTHS[descriptor & 3] + contentSize;
}

const isSkippable = (magic: number): boolean => (magic & ~15) === SKIPPABLE_MAGIC;

/** Whether the first `count` bytes can begin a frame. */
function canBeMagic(bytes: Uint8Array, count: number): boolean {
  const skippable = (bytes[0] & ~15) === (SKIPPABLE_MAGIC & 0xff);
  const magic = skippable ? SKIPPABLE_MAGIC | (bytes[0] & 15) : MAGIC;
  return bytes.subarray(0, count).every((byte, index) => byte === ((magic >>> (8 * index)) & 0xff));
}

class ZstdDecoder extends StepDecoder {
  readonly #library: ReturnType<typeof load>;
  #stream: number;
  readonly #buffers = new Uint32Array(new ArrayBuffer(48));
  readonly #buffersAddress = addressOf(this.#buffers);
  readonly #headerView = new DataView(this.header.buffer);
  #place: Place = 'frame';
  /** Bytes of the current block or skippable frame that are still to come. */
  #left = 0;
  /** Whether the last call filled the output, so that libzstd may have more. */
  #flushing = false;
  /** Result of the last call: 0 at the end of a frame. */
  #result = 0;
  #isLastBlock = false;
  #hasChecksum = false;
  #verified: number;
  /** Whether a frame has ended; a file has at least one. */
  #anyFrame = false;
  /** A later frame by the seek table. */
  readonly #later: LaterPlace;

  constructor(from: RestartPoint, spacing: number) {
    super(from, spacing);
    loaded ??= load();
    this.#library = loaded;
    this.#verified = from.out;
    this.#stream = this.#library.create();
    if (this.#stream === 0) throw this.failure('memory', 'not enough memory for zstd');
    this.#library.setParameter(this.#stream, PARAMETER_WINDOW_LOG_MAX, MAX_WINDOW_LOG);
    this.#later = new LaterPlace(from.state);
  }

  /** The bytes before a later frame are where the table says only if that frame is, too. */
  get verified(): number {
    return Math.min(this.#hasChecksum ? this.#verified : this.out, this.#later.limit);
  }

  close(): void {
    if (this.#stream !== 0) this.#library.free(this.#stream);
    this.#stream = 0;
  }

  protected step(address: number, room: number): number {
    if (this.#flushing) return this.#decompress(this.headerAddress, 0, address, room);
    switch (this.#place) {
      case 'frame':
        return this.#beginFrame(address, room);
      case 'block-header':
        return this.#beginBlock(address, room);
      case 'block':
        return this.#decodeBlock(address, room);
      case 'checksum':
        return this.#check(address, room);
      case 'skippable':
        return this.#skip();
    }
  }

  #beginFrame(address: number, room: number): number {
    if (this.gathered === 0) {
      if (!this.#later.allows(this.input.position, this.out))
        throw this.failure('misplaced', 'the seek table of the zstd data is wrong');
      if (this.input.isEmpty && this.input.isLast && this.#anyFrame) return this.end();
      this.points.offer(this.input.position, this.out);
    }
    if (!this.gather(MAGIC_LENGTH)) {
      if (!canBeMagic(this.header, this.gathered)) throw this.#notAFrame();
      return this.starve();
    }
    const magic = this.#headerView.getUint32(0, true);
    if (isSkippable(magic)) {
      if (!this.gather(MAGIC_LENGTH + 4)) return this.starve();
      this.#left = this.#headerView.getUint32(MAGIC_LENGTH, true);
      this.gathered = 0;
      this.#place = 'skippable';
      return 0;
    }
    if (magic !== MAGIC) throw this.#notAFrame();
    if (!this.gather(MAGIC_LENGTH + 1)) return this.starve();
    const length = frameHeaderLength(this.header[MAGIC_LENGTH]);
    if (!this.gather(length)) return this.starve();
    this.#verified = this.out;
    this.#hasChecksum = (this.header[MAGIC_LENGTH] & HAS_CHECKSUM) !== 0;
    this.#place = 'block-header';
    return this.#giveHeader(length, address, room);
  }

  #beginBlock(address: number, room: number): number {
    if (!this.gather(BLOCK_HEADER_LENGTH)) return this.starve();
    const bits = this.header[0] | (this.header[1] << 8) | (this.header[2] << 16);
    this.#isLastBlock = (bits & 1) !== 0;
    this.#left = ((bits >> 1) & 3) === BLOCK_RLE ? 1 : bits >> 3;
    this.#place = 'block';
    const made = this.#giveHeader(BLOCK_HEADER_LENGTH, address, room);
    if (this.#left === 0) this.#endBlock();
    return made;
  }

  #decodeBlock(address: number, room: number): number {
    const length = Math.min(this.#left, this.input.length);
    if (length === 0) return this.starve();
    const made = this.#decompress(this.input.address, length, address, room);
    const used = this.#buffers[SOURCE + POSITION];
    this.input.consume(used);
    this.#left -= used;
    if (this.#left === 0) this.#endBlock();
    return made;
  }

  #endBlock(): void {
    if (!this.#isLastBlock) this.#place = 'block-header';
    else if (this.#hasChecksum) this.#place = 'checksum';
    else this.#endFrame();
  }

  #check(address: number, room: number): number {
    if (!this.gather(CHECKSUM_LENGTH)) return this.starve();
    const made = this.#giveHeader(CHECKSUM_LENGTH, address, room);
    this.#endFrame();
    return made;
  }

  #endFrame(): void {
    if (this.#result !== 0) throw this.failure('damaged', 'a zstd frame ends too early', this.verified);
    this.#anyFrame = true;
    this.#hasChecksum = false;
    this.#place = 'frame';
  }

  #skip(): number {
    const length = Math.min(this.#left, this.input.length);
    this.input.consume(length);
    this.#left -= length;
    if (this.#left > 0) return length > 0 ? 0 : this.starve();
    this.#anyFrame = true;
    this.#place = 'frame';
    return 0;
  }

  #giveHeader(length: number, address: number, room: number): number {
    this.gathered = 0;
    return this.#decompress(this.headerAddress, length, address, room);
  }

  /** Calls libzstd once; the position of the source says what it has used. @returns the bytes written */
  #decompress(source: number, length: number, target: number, room: number): number {
    const buffers = this.#buffers;
    this.#setAddress(SOURCE, source);
    buffers[SOURCE + LENGTH] = length;
    buffers[SOURCE + POSITION] = 0;
    this.#setAddress(TARGET, target);
    buffers[TARGET + LENGTH] = room;
    buffers[TARGET + POSITION] = 0;
    const result = this.#library.decompress(
      this.#stream,
      this.#buffersAddress + TARGET * 4,
      this.#buffersAddress + SOURCE * 4,
    );
    if (result < 0) throw this.#libraryFailure(-result);
    this.#result = result;
    const made = buffers[TARGET + POSITION];
    this.#flushing = made === room;
    return made;
  }

  #setAddress(index: number, address: number): void {
    this.#buffers[index] = address % 2 ** 32;
    this.#buffers[index + 1] = Math.floor(address / 2 ** 32);
  }

  #libraryFailure(code: number): Error {
    const text = `the zstd data cannot be decoded: ${this.#library.errorText(code)}`;
    if (UNSUPPORTED.includes(code)) return this.failure('unsupported', text);
    if (OUT_OF_MEMORY.includes(code)) return this.failure('memory', text);
    return this.failure('damaged', text, this.verified);
  }

  #notAFrame(): Error {
    return this.failure('damaged', 'this is not a zstd frame');
  }
}

/** @throws DecodeError if there is not enough memory, Error without libzstd */
export const createZstdDecoder = (from: RestartPoint, spacing: number): StepDecoder =>
  new ZstdDecoder(from, spacing);
