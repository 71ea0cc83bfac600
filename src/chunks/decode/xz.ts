// Decodes xz: streams, their padding and their blocks, as `xz -dc` does. Decoding can restart at streams and at blocks.
//
// This decoder finds the blocks of a stream and gives liblzma one at a time: liblzma's own decoder of streams
// cannot begin at a block, and does not say where one ends.

import { addressOf } from '../../linux/libc.js';
import type { DecodeError, RestartPoint } from '../contract/coding.js';
import { LaterPlace } from './later-place.js';
import {
  LZMA_BUF_ERROR,
  LZMA_MEM_ERROR,
  LZMA_MEMLIMIT_ERROR,
  LZMA_OK,
  LZMA_OPTIONS_ERROR,
  LZMA_STREAM_END,
  liblzma,
} from './liblzma.js';
import { StepDecoder } from './step-decoder.js';
import {
  ALIGNMENT,
  canBeStreamHeader,
  checkLength,
  IndexParser,
  parseStreamFooter,
  parseStreamHeader,
  STREAM_FOOTER,
  STREAM_HEADER,
  UNKNOWN_CHECK,
} from './xz-format.js';

/** Bytes of memory that the filters of a block may need: a dictionary of 1 GiB, and what goes with it. */
const MEMORY_LIMIT = (1024 + 64) * 1024 * 1024;

/** Offsets in a lzma_stream, in numbers of 64 bits, and its length in bytes. */
const [NEXT_IN, AVAIL_IN, NEXT_OUT, AVAIL_OUT] = [0, 1, 3, 4];
const LZMA_STREAM_LENGTH = 136;

/** Offsets in a lzma_block, and its length in bytes. */
const BLOCK_HEADER_SIZE = 4;
const BLOCK_CHECK = 8;
const BLOCK_COMPRESSED_SIZE = 16;
const BLOCK_FILTERS = 32;
const LZMA_BLOCK_LENGTH = 208;

/** A block has at most four filters, and an end mark. */
const MAX_FILTERS = 4;
/** Bytes of a lzma_filter: an ID, and the address of its options. */
const LZMA_FILTER_LENGTH = 16;

const LZMA_RUN = 0;

type Place = 'stream-header' | 'block-header' | 'block' | 'index' | 'footer' | 'padding';

/** Compares the blocks of a stream with its index, without keeping them. */
class BlockSums {
  #count = 0;
  #sum = 0;
  #hash = 0;

  add(unpadded: number, uncompressed: number): void {
    this.#count++;
    this.#sum = (this.#sum + unpadded + uncompressed) % 2 ** 52;
    for (const value of [unpadded, uncompressed]) {
      this.#hash = Math.imul(this.#hash ^ value ^ (value / 2 ** 32), 0x9e3779b1);
      this.#hash ^= this.#hash >>> 15;
    }
  }

  equals(other: BlockSums): boolean {
    return this.#count === other.#count && this.#sum === other.#sum && this.#hash === other.#hash;
  }
}

class XzDecoder extends StepDecoder {
  readonly #library = liblzma();
  readonly #stream = new BigUint64Array(new ArrayBuffer(LZMA_STREAM_LENGTH));
  readonly #streamAddress = addressOf(this.#stream);
  readonly #block = new DataView(new ArrayBuffer(LZMA_BLOCK_LENGTH));
  readonly #blockAddress = addressOf(this.#block);
  readonly #filters = new BigUint64Array(new ArrayBuffer((MAX_FILTERS + 1) * LZMA_FILTER_LENGTH));
  readonly #filtersAddress = addressOf(this.#filters);
  readonly #fail = this.failure.bind(this);
  #place: Place = 'stream-header';
  /** ID of the check of the current stream, and whether liblzma knows it. */
  #check = 0;
  #isChecked = false;
  /** Restart points in the current stream have this state. */
  #state: Uint8Array | undefined;
  #verified: number;
  /** Decoded offset of the current block. */
  #blockStart = 0;
  /** Whether the last call filled the output, so that liblzma may have more. */
  #flushing = false;
  /** Damage that liblzma found behind bytes which it has written. */
  #late: DecodeError | undefined;
  /** The blocks of the current stream; undefined: decoding began in the middle of it. */
  #blocks: BlockSums | undefined;
  /** The blocks that the index names. */
  #indexed = new BlockSums();
  #index: IndexParser | undefined;
  #indexLength = 0;
  /** Bytes of padding behind the last stream. */
  #padding = 0;
  #unchecked: string | undefined;
  /** A later block, or the index behind the last one, by the index. */
  readonly #later: LaterPlace;

  constructor(from: RestartPoint, spacing: number) {
    super(from, spacing);
    this.#verified = from.out;
    this.#later = new LaterPlace(from.state, 1);
    if (from.state !== undefined) this.#beginBlocks(from.state[0]);
  }

  /** The bytes before a later block are where the index says only if that block is, too. */
  get verified(): number {
    return Math.min(this.#verified, this.#later.limit);
  }

  close(): void {
    this.#library.end(this.#streamAddress);
  }

  protected step(address: number, room: number): number {
    if (this.#late !== undefined) throw this.#late;
    switch (this.#place) {
      case 'stream-header':
        return this.#beginStream();
      case 'block-header':
        return this.#beginBlock();
      case 'block':
        return this.#decodeBlock(address, room);
      case 'index':
        return this.#readIndex();
      case 'footer':
        return this.#endStream();
      case 'padding':
        return this.#skipPadding();
    }
  }

  #beginStream(): number {
    if (this.gathered === 0) this.points.offer(this.input.position, this.out);
    const isWhole = this.gather(STREAM_HEADER);
    if (!canBeStreamHeader(this.header, this.gathered)) throw this.#notAStream();
    if (!isWhole) return this.starve();
    this.#beginBlocks(parseStreamHeader(this.header.subarray(0, STREAM_HEADER), this.#fail));
    this.#blocks = new BlockSums();
    return 0;
  }

  #beginBlocks(check: number): void {
    this.#check = check;
    this.#state = Uint8Array.of(check);
    const isKnown = this.#library.checkIsSupported(check) !== 0;
    this.#isChecked = isKnown && check !== 0;
    if (!isKnown) this.#unchecked = UNKNOWN_CHECK;
    this.#go('block-header');
  }

  #beginBlock(): number {
    if (this.gathered === 0) {
      if (!this.#later.allows(this.input.position, this.out)) throw this.#misplaced();
      this.points.offer(this.input.position, this.out, this.#state);
    }
    if (!this.gather(1)) return this.starve();
    if (this.header[0] === 0) return this.#beginIndex();
    const length = (this.header[0] + 1) * ALIGNMENT;
    if (!this.gather(length)) return this.starve();
    this.#block.setUint32(BLOCK_HEADER_SIZE, length, true);
    this.#block.setUint32(BLOCK_CHECK, this.#check, true);
    this.#block.setBigUint64(BLOCK_FILTERS, BigInt(this.#filtersAddress), true);
    this.#openBlock();
    this.#blockStart = this.out;
    this.#flushing = false;
    return this.#go('block');
  }

  #misplaced(): DecodeError {
    return this.failure('misplaced', 'the index of an xz stream does not fit its blocks', this.#verified);
  }

  /** Gives liblzma the block's header. */
  #openBlock(): void {
    const library = this.#library;
    this.#expect(library.blockHeaderDecode(this.#blockAddress, 0, this.headerAddress), 'header of a block');
    try {
      const memory = Number(library.decoderMemory(this.#filtersAddress));
      // All bits of the number are set if liblzma does not know a filter.
      if (memory === 2 ** 64) throw this.failure('unsupported', 'a filter of the xz data is not supported');
      if (memory > MEMORY_LIMIT) throw this.failure('memory', this.#memoryText(memory));
      this.#expect(library.blockDecoder(this.#streamAddress, this.#blockAddress), 'header of a block');
    } finally {
      this.#freeFilters();
    }
  }

  #memoryText(memory: number): string {
    const [needed, limit] = [memory, MEMORY_LIMIT].map((bytes) => Math.ceil(bytes / 2 ** 20));
    return `the xz data needs ${needed} MiB of memory, more than ${limit} MiB`;
  }

  /** liblzma has copied the options of the filters; they end with an ID of which all bits are set. */
  #freeFilters(): void {
    for (let at = 0; at < 2 * MAX_FILTERS && this.#filters[at] !== 2n ** 64n - 1n; at += 2) {
      this.#library.free(Number(this.#filters[at + 1]));
    }
  }

  #decodeBlock(address: number, room: number): number {
    const length = this.input.length;
    if (length === 0 && !this.#flushing) return this.starve();
    const stream = this.#stream;
    stream[NEXT_IN] = BigInt(length === 0 ? 0 : this.input.address);
    stream[AVAIL_IN] = BigInt(length);
    stream[NEXT_OUT] = BigInt(address);
    stream[AVAIL_OUT] = BigInt(room);
    const result = this.#library.code(this.#streamAddress, LZMA_RUN);
    const used = length - Number(stream[AVAIL_IN]);
    const made = room - Number(stream[AVAIL_OUT]);
    if (this.#later.isPassedBy(this.out + made)) throw this.#misplaced();
    this.input.consume(used);
    this.#flushing = made === room;
    if (result === LZMA_STREAM_END) this.#endBlock(this.out + made);
    else if (result !== LZMA_OK && (result !== LZMA_BUF_ERROR || length > 0)) {
      this.#late = this.#libraryFailure(result, 'data');
      if (made === 0) throw this.#late;
    } else if (!this.#isChecked) this.#verified = this.out + made;
    return made;
  }

  /** @param out offset of the next decoded byte */
  #endBlock(out: number): void {
    this.#verified = out;
    const header = this.#block.getUint32(BLOCK_HEADER_SIZE, true);
    const compressed = Number(this.#block.getBigUint64(BLOCK_COMPRESSED_SIZE, true));
    this.#blocks?.add(header + compressed + checkLength(this.#check), out - this.#blockStart);
    this.#go('block-header');
  }

  #beginIndex(): number {
    const indexed = new BlockSums();
    this.#indexed = indexed;
    this.#index = new IndexParser((unpadded, size) => indexed.add(unpadded, size), this.#fail);
    this.#index.feed(this.header.subarray(0, 1));
    return this.#go('index');
  }

  #readIndex(): number {
    const index = this.#index;
    if (index === undefined) throw new Error('no index');
    if (this.input.isEmpty) return this.starve();
    const { start, bytes } = this.input.chunks[0];
    this.input.consume(index.feed(bytes.subarray(this.input.position - start)));
    if (!index.ended) return 0;
    if (this.#blocks !== undefined && !this.#blocks.equals(this.#indexed)) {
      throw this.failure('damaged', 'the index of an xz stream does not fit its blocks');
    }
    this.#indexLength = index.length;
    return this.#go('footer');
  }

  #endStream(): number {
    if (!this.gather(STREAM_FOOTER)) return this.starve();
    const { check, indexLength } = parseStreamFooter(this.header.subarray(0, STREAM_FOOTER), this.#fail);
    if (check !== this.#check || indexLength !== this.#indexLength) {
      throw this.failure('damaged', 'the footer of an xz stream does not fit the stream');
    }
    this.#padding = 0;
    return this.#go('padding');
  }

  #skipPadding(): number {
    while (!this.input.isEmpty) {
      const { start, bytes } = this.input.chunks[0];
      const from = this.input.position - start;
      let at = from;
      while (at < bytes.length && bytes[at] === 0) at++;
      this.#padding += at - from;
      const isOver = at < bytes.length;
      this.input.consume(at - from);
      if (!isOver) continue;
      this.#checkPadding();
      return this.#go('stream-header');
    }
    if (!this.input.isLast) return this.starve();
    this.#checkPadding();
    return this.end(this.#unchecked);
  }

  #checkPadding(): void {
    if (this.#padding % ALIGNMENT !== 0)
      throw this.failure('damaged', 'the padding of the xz data is damaged');
  }

  /** @returns what a step returns that has written nothing */
  #go(place: Place): number {
    this.#place = place;
    this.gathered = 0;
    return 0;
  }

  #expect(result: number, part: string): void {
    if (result !== LZMA_OK) throw this.#libraryFailure(result, part);
  }

  #libraryFailure(result: number, part: string): DecodeError {
    switch (result) {
      case LZMA_MEM_ERROR:
      case LZMA_MEMLIMIT_ERROR:
        return this.failure('memory', 'not enough memory for xz');
      case LZMA_OPTIONS_ERROR:
        return this.failure('unsupported', 'the xz data has options that are not supported');
      default:
        return this.failure('damaged', `the ${part} of the xz file is damaged`, this.#verified);
    }
  }

  #notAStream(): DecodeError {
    const isFirst = this.#blocks === undefined && this.out === 0;
    return this.failure('damaged', isFirst ? 'this is not an xz file' : 'other bytes follow the xz data');
  }
}

/** @throws Error without liblzma */
export const createXzDecoder = (from: RestartPoint, spacing: number): StepDecoder =>
  new XzDecoder(from, spacing);
