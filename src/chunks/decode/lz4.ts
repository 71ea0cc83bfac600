// Decodes lz4: frames, skippable frames and the legacy format, as `lz4 -dc` does. Decoding can restart at frames, at
// independent blocks of a frame, and at the blocks of the legacy format.
//
// The decoder reads the headers of blocks and gives liblz4 one block at a time: the offsets of a block are known only
// then. lz4's documents lz4_Frame_format.md has the format.

import { addressOf, libc } from '../../linux/libc.js';
import type { RestartPoint } from '../contract/coding.js';
import { openLibrary } from './native.js';
import { StepDecoder } from './step-decoder.js';

const MAGIC = 0x184d2204;
const LEGACY_MAGIC = 0x184c2102;
/** The last four bits of a skippable frame's magic number are free. */
const SKIPPABLE_MAGIC = 0x184d2a50;
const MAGICS = [MAGIC, LEGACY_MAGIC, SKIPPABLE_MAGIC];
/** Bytes of a magic number, of a block's size and of a checksum. */
const WORD = 4;

/** Bits of the first byte behind a frame's magic number, FLG. */
const VERSION_1 = 1 << 6;
const BLOCKS_ARE_INDEPENDENT = 1 << 5;
const HAS_BLOCK_CHECKSUMS = 1 << 4;
const HAS_CONTENT_SIZE = 1 << 3;
const HAS_CONTENT_CHECKSUM = 1 << 2;
const HAS_DICTIONARY_ID = 1 << 0;

/** Decoded bytes of a block of the legacy format, and the most that they can take compressed. */
const LEGACY_BLOCK = 8 * 1024 * 1024;
const MAX_LEGACY_COMPRESSED = LEGACY_BLOCK + Math.floor(LEGACY_BLOCK / 255) + 16;
/** The state of a restart point at a legacy block; that of others has FLG and the byte behind it. */
const LEGACY_STATE = Uint8Array.of(0);

/** Error codes of lz4frame.h: a version or a flag of the future, and lack of memory. */
const UNSUPPORTED: readonly number[] = [6, 8];
const OUT_OF_MEMORY = 9;

/** LZ4F_VERSION. */
const FRAME_VERSION = 100;

function load() {
  const library = openLibrary('liblz4.so.1');
  return {
    create: library.func('LZ4F_createDecompressionContext', 'long', ['size_t', 'unsigned int']),
    free: library.func('LZ4F_freeDecompressionContext', 'long', ['size_t']),
    decompress: library.func(
      'LZ4F_decompress',
      'long',
      Array.from({ length: 6 }, () => 'size_t'),
    ),
    errorName: library.func('LZ4F_getErrorName', 'str', ['long']),
    decompressBlock: library.func('LZ4_decompress_safe', 'int', ['size_t', 'size_t', 'int', 'int']),
  } as const;
}

let loaded: ReturnType<typeof load> | undefined;

type Place =
  | 'frame'
  | 'block-header'
  | 'block'
  | 'checksum'
  | 'skipped-checksum'
  | 'skippable'
  | 'legacy-header'
  | 'legacy-block'
  | 'legacy-output';

/** Bytes of a frame's header, magic number included. */
const headerLength = (flags: number): number =>
  7 + ((flags & HAS_CONTENT_SIZE) !== 0 ? 8 : 0) + ((flags & HAS_DICTIONARY_ID) !== 0 ? 4 : 0);

const isSkippable = (magic: number): boolean => (magic & ~15) === SKIPPABLE_MAGIC;

/** Whether the first `count` bytes can begin a frame. */
function canBeMagic(bytes: Uint8Array, count: number): boolean {
  return MAGICS.some((magic) => {
    const given = (index: number): number => (magic >>> (8 * index)) & 0xff;
    const isFree = magic === SKIPPABLE_MAGIC;
    return bytes.subarray(0, count).every((byte, index) => {
      return (isFree && index === 0 ? byte & ~15 : byte) === given(index);
    });
  });
}

/** XXH32 of less than four bytes. */
function shortXxh32(bytes: Uint8Array): number {
  let hash = 0x165667b1 + bytes.length;
  for (const byte of bytes) {
    hash = (hash + Math.imul(byte, 0x165667b1)) | 0;
    hash = Math.imul((hash << 11) | (hash >>> 21), 0x9e3779b1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae3d);
  return (hash ^ (hash >>> 16)) >>> 0;
}

class Lz4Decoder extends StepDecoder {
  readonly #library: ReturnType<typeof load>;
  readonly #sizes = new Uint32Array(new ArrayBuffer(16));
  readonly #sizesAddress = addressOf(this.#sizes);
  readonly #headerView = new DataView(this.header.buffer);
  #context: number;
  #place: Place = 'frame';
  /** Bytes of the current block or skippable frame that are still to come, or to be written. */
  #left = 0;
  /** Whether the last call filled the output, so that liblz4 may have more. */
  #flushing = false;
  /** FLG of the current frame; 0 outside of frames. */
  #flags = 0;
  /** State of the restart points in this frame; undefined: there are none. */
  #state: Uint8Array | undefined;
  /** Whether decoding began inside this frame, so that its content checksum says nothing. */
  #isPartial = false;
  #verified: number;
  /** A compressed and a decoded block of the legacy format. */
  #legacy: { readonly compressed: Uint8Array; readonly decoded: Uint8Array } | undefined;
  /** Bytes of the legacy block: compressed, then decoded; `left` counts down. */
  #legacyLength = 0;

  constructor(from: RestartPoint, spacing: number) {
    super(from, spacing);
    loaded ??= load();
    this.#library = loaded;
    this.#verified = from.out;
    const context = new Uint32Array(new ArrayBuffer(8));
    if (this.#library.create(addressOf(context), FRAME_VERSION) < 0) {
      throw this.failure('memory', 'not enough memory for lz4');
    }
    this.#context = context[0] + context[1] * 2 ** 32;
    if (from.state !== undefined) this.#restart(from.state);
  }

  get verified(): number {
    const isChecked =
      (this.#flags & HAS_BLOCK_CHECKSUMS) !== 0 ||
      ((this.#flags & HAS_CONTENT_CHECKSUM) !== 0 && !this.#isPartial);
    return isChecked ? this.#verified : this.out;
  }

  close(): void {
    if (this.#context !== 0) this.#library.free(this.#context);
    this.#context = 0;
    this.#legacy = undefined;
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
      case 'skipped-checksum':
        return this.#check(address, room);
      case 'skippable':
        return this.#skip();
      case 'legacy-header':
        return this.#beginLegacyBlock();
      case 'legacy-block':
        return this.#decodeLegacyBlock();
      case 'legacy-output':
        return this.#writeLegacyBlock(address, room);
    }
  }

  /** Lets liblz4 believe that a frame begins at the block of a restart point. */
  #restart(state: Uint8Array): void {
    if (state.length === LEGACY_STATE.length) {
      this.#place = 'legacy-header';
      return;
    }
    this.#headerView.setUint32(0, MAGIC, true);
    this.header[4] = VERSION_1 | (state[0] & (BLOCKS_ARE_INDEPENDENT | HAS_BLOCK_CHECKSUMS));
    this.header[5] = state[1];
    this.header[6] = (shortXxh32(this.header.subarray(4, 6)) >>> 8) & 0xff;
    this.#flags = state[0];
    this.#state = state;
    this.#isPartial = true;
    this.#place = 'block-header';
    this.#decompress(this.headerAddress, 7, this.headerAddress, 0);
    this.#flushing = false;
  }

  #beginFrame(address: number, room: number): number {
    if (this.gathered === 0) {
      if (this.input.isEmpty && this.input.isLast) return this.end();
      this.points.offer(this.input.position, this.out);
    }
    if (!this.gather(WORD)) {
      if (!canBeMagic(this.header, this.gathered)) throw this.#notAFrame();
      return this.starve();
    }
    const magic = this.#headerView.getUint32(0, true);
    if (isSkippable(magic)) {
      if (!this.gather(2 * WORD)) return this.starve();
      this.#left = this.#headerView.getUint32(WORD, true);
      return this.#go('skippable');
    }
    if (magic === LEGACY_MAGIC) return this.#go('legacy-header');
    if (magic !== MAGIC) throw this.#notAFrame();
    if (!this.gather(WORD + 2)) return this.starve();
    const flags = this.header[WORD];
    const length = headerLength(flags);
    if (!this.gather(length)) return this.starve();
    const isDivisible = (flags & BLOCKS_ARE_INDEPENDENT) !== 0 && (flags & HAS_DICTIONARY_ID) === 0;
    this.#state = isDivisible ? this.header.slice(WORD, WORD + 2) : undefined;
    this.#verified = this.out;
    this.#flags = flags;
    this.#go('block-header');
    return this.#decompress(this.headerAddress, length, address, room);
  }

  #beginBlock(address: number, room: number): number {
    if (this.gathered === 0) {
      if ((this.#flags & HAS_BLOCK_CHECKSUMS) !== 0) this.#verified = this.out;
      if (this.#state !== undefined) this.points.offer(this.input.position, this.out, this.#state);
    }
    if (!this.gather(WORD)) return this.starve();
    const length = this.#headerView.getUint32(0, true) & 0x7fffffff;
    this.#left = length + ((this.#flags & HAS_BLOCK_CHECKSUMS) !== 0 ? WORD : 0);
    this.#go('block');
    const made = this.#decompress(this.headerAddress, WORD, address, room);
    if (length === 0) this.#endBlocks();
    return made;
  }

  #decodeBlock(address: number, room: number): number {
    const length = Math.min(this.#left, this.input.length);
    if (length === 0) return this.starve();
    const made = this.#decompress(this.input.address, length, address, room);
    const used = this.#sizes[2];
    this.input.consume(used);
    this.#left -= used;
    if (this.#left === 0) this.#go('block-header');
    return made;
  }

  /** Follows the end mark of a frame. */
  #endBlocks(): void {
    if ((this.#flags & HAS_CONTENT_CHECKSUM) === 0) this.#endFrame();
    else this.#go(this.#isPartial ? 'skipped-checksum' : 'checksum');
  }

  #check(address: number, room: number): number {
    if (!this.gather(WORD)) return this.starve();
    const made = this.#place === 'checksum' ? this.#decompress(this.headerAddress, WORD, address, room) : 0;
    this.#endFrame();
    return made;
  }

  #endFrame(): void {
    this.#isPartial = false;
    this.#flags = 0;
    this.#go('frame');
  }

  #skip(): number {
    const length = Math.min(this.#left, this.input.length);
    this.input.consume(length);
    this.#left -= length;
    if (this.#left === 0) return this.#go('frame');
    if (length > 0) return 0;
    // lz4 seeks over the frame, and does not notice that the file ends in it.
    return this.input.isLast ? this.end() : this.starve();
  }

  #beginLegacyBlock(): number {
    if (this.gathered === 0) {
      if (this.input.isEmpty && this.input.isLast) return this.end();
      this.points.offer(this.input.position, this.out, LEGACY_STATE);
    }
    if (!this.gather(WORD)) return this.starve();
    const length = this.#headerView.getUint32(0, true);
    if (length > MAX_LEGACY_COMPRESSED) {
      this.#place = 'frame';
      return 0;
    }
    this.#left = length;
    this.#legacyLength = length;
    this.#legacy ??= {
      compressed: new Uint8Array(MAX_LEGACY_COMPRESSED),
      decoded: new Uint8Array(LEGACY_BLOCK),
    };
    return this.#go('legacy-block');
  }

  #decodeLegacyBlock(): number {
    const legacy = this.#legacyBuffers();
    this.#left -= this.input.take(legacy.compressed, this.#legacyLength - this.#left, this.#left);
    if (this.#left > 0) return this.starve();
    const made = this.#library.decompressBlock(
      addressOf(legacy.compressed),
      addressOf(legacy.decoded),
      this.#legacyLength,
      LEGACY_BLOCK,
    );
    if (made < 0) throw this.failure('damaged', 'the lz4 data is damaged');
    this.#legacyLength = made;
    this.#left = made;
    return this.#go('legacy-output');
  }

  #writeLegacyBlock(address: number, room: number): number {
    const length = Math.min(this.#left, room);
    libc.memcpy(address, addressOf(this.#legacyBuffers().decoded) + this.#legacyLength - this.#left, length);
    this.#left -= length;
    if (this.#left === 0) this.#go('legacy-header');
    return length;
  }

  #legacyBuffers(): { readonly compressed: Uint8Array; readonly decoded: Uint8Array } {
    if (this.#legacy === undefined) throw new Error('no legacy block');
    return this.#legacy;
  }

  /** @returns the result of a step that has written nothing */
  #go(place: Place): number {
    this.#place = place;
    this.gathered = 0;
    return 0;
  }

  /** Calls liblz4 once; the third word of `sizes` says what it has used. @returns the bytes written */
  #decompress(source: number, length: number, target: number, room: number): number {
    const sizes = this.#sizes;
    sizes[0] = room;
    sizes[2] = length;
    const result = this.#library.decompress(
      this.#context,
      target,
      this.#sizesAddress,
      source,
      this.#sizesAddress + 8,
      0,
    );
    if (result < 0) throw this.#libraryFailure(-result);
    this.#flushing = sizes[0] === room;
    return sizes[0];
  }

  #libraryFailure(code: number): Error {
    const text = `the lz4 data cannot be decoded: ${this.#library.errorName(-code).replace(/^ERROR_/, '')}`;
    if (UNSUPPORTED.includes(code)) return this.failure('unsupported', text);
    if (code === OUT_OF_MEMORY) return this.failure('memory', text);
    return this.failure('damaged', text, this.verified);
  }

  #notAFrame(): Error {
    return this.failure('damaged', 'this is not an lz4 frame');
  }
}

/** @throws DecodeError if there is not enough memory, Error without liblz4 */
export const createLz4Decoder = (from: RestartPoint, spacing: number): StepDecoder =>
  new Lz4Decoder(from, spacing);
