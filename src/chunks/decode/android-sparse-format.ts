// The headers of an Android sparse image, and the state of a decoder between two of its bytes. Pure.
//
// An image is a header and chunks: raw data, a repeated number, nothing, or a checksum of the image so far. Layout:
// libsparse's sparse_format.h. All numbers are little-endian.

import { type Damage, DecodeError, type RestartPoint } from '../contract/coding.js';

const MAGIC = 0xed26ff3a;
/** Bytes of the headers in version 1.0; later ones may be longer. */
export const FILE_HEADER_LENGTH = 28;
export const CHUNK_HEADER_LENGTH = 12;
/** Maximum bytes of either header. */
export const MAX_HEADER_LENGTH = 256;
/** Bytes behind the header of a chunk that repeats a number, and of a checksum. */
export const NUMBER_LENGTH = 4;
const STATE_LENGTH = 32;

/** A chunk's kind: `raw` data, a `fill` with one number, or a `hole`, which nobody has written. */
type ChunkKind = 'raw' | 'fill' | 'hole' | 'checksum';

const KINDS: ReadonlyMap<number, ChunkKind> = new Map([
  [0xcac1, 'raw'],
  [0xcac2, 'fill'],
  [0xcac3, 'hole'],
  [0xcac4, 'checksum'],
]);

/** The header of a file. */
export interface FileHeader {
  /** Bytes of this header. */
  readonly length: number;
  readonly chunkHeaderLength: number;
  readonly blockSize: number;
  /** Blocks of the image. */
  readonly blocks: number;
  readonly chunks: number;
}

/** The header of a chunk. */
export interface ChunkHeader {
  readonly kind: ChunkKind;
  /** Decoded bytes. */
  readonly size: number;
  /** Bytes in the file behind the header. */
  readonly stored: number;
}

/** The chunk whose decoded bytes come next. */
export interface CurrentChunk {
  readonly kind: Exclude<ChunkKind, 'checksum'>;
  /** Decoded bytes that are still to come. */
  readonly left: number;
  readonly fill: number;
}

/** The state of a decoder. */
export interface SparseState {
  readonly file: Omit<FileHeader, 'length'>;
  /** Chunks whose headers have been read. */
  readonly chunksRead: number;
  /** Undefined: the next byte of the file is one of a header. */
  readonly current: CurrentChunk | undefined;
}

/** A place in the file and in the image. */
export type Place = Pick<RestartPoint, 'in' | 'out'>;

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** An error about an Android sparse image. */
export function sparseError(reason: Damage, why: string, { in: at, out }: Place): DecodeError {
  return new DecodeError(`the Android sparse image ${why}`, reason, { in: at, out });
}

/** Bytes of the image. */
export const sizeOf = ({ blocks, blockSize }: Pick<FileHeader, 'blocks' | 'blockSize'>): number =>
  blocks * blockSize;

/** Parses the first FILE_HEADER_LENGTH bytes. @throws DecodeError */
export function parseFileHeader(bytes: Uint8Array): FileHeader {
  const at = { in: 0, out: 0 };
  const header = view(bytes);
  if (header.getUint32(0, true) !== MAGIC) throw sparseError('damaged', 'has no header', at);
  const major = header.getUint16(4, true);
  if (major !== 1) throw sparseError('unsupported', `has version ${major}, and only 1 is known`, at);
  const [length, chunkHeaderLength] = [header.getUint16(8, true), header.getUint16(10, true)];
  const [blockSize, blocks] = [header.getUint32(12, true), header.getUint32(16, true)];
  const isLong = length >= FILE_HEADER_LENGTH && chunkHeaderLength >= CHUNK_HEADER_LENGTH;
  if (!isLong || blockSize === 0 || blockSize % NUMBER_LENGTH !== 0)
    throw sparseError('damaged', 'has a wrong header', at);
  if (Math.max(length, chunkHeaderLength) > MAX_HEADER_LENGTH)
    throw sparseError('unsupported', 'has headers that are too long', at);
  if (blockSize * blocks > Number.MAX_SAFE_INTEGER) throw sparseError('unsupported', 'is too large', at);
  return { length, chunkHeaderLength, blockSize, blocks, chunks: header.getUint32(20, true) };
}

/** Parses a chunk's first CHUNK_HEADER_LENGTH bytes. @param at its place @throws DecodeError */
export function parseChunkHeader(bytes: Uint8Array, file: SparseState['file'], at: Place): ChunkHeader {
  const header = view(bytes);
  const type = header.getUint16(0, true);
  const kind = KINDS.get(type);
  if (kind === undefined) throw sparseError('damaged', `has a chunk of the unknown kind ${type}`, at);
  const size = kind === 'checksum' ? 0 : header.getUint32(4, true) * file.blockSize;
  const stored = header.getUint32(8, true) - file.chunkHeaderLength;
  const wanted = { raw: size, fill: NUMBER_LENGTH, hole: 0, checksum: NUMBER_LENGTH }[kind];
  if (stored !== wanted) throw sparseError('damaged', 'has a chunk of a wrong length', at);
  if (at.out + size > sizeOf(file)) throw sparseError('damaged', 'has more blocks than its header says', at);
  return { kind, size, stored };
}

/** @throws DecodeError if the chunks of an image end before its blocks */
export function checkEnd(file: SparseState['file'], at: Place): void {
  if (at.out !== sizeOf(file)) throw sparseError('damaged', 'has fewer blocks than its header says', at);
}

/** Kinds of the current chunk in a restart point; 0 stands for none. */
const CURRENT = ['raw', 'fill', 'hole'] as const;

/** The state for a restart point. */
export function stateBytes({ file, chunksRead, current }: SparseState): Uint8Array {
  const bytes = new Uint8Array(STATE_LENGTH);
  const out = view(bytes);
  for (const [i, value] of [file.blockSize, file.blocks, file.chunks, chunksRead].entries())
    out.setUint32(4 * i, value, true);
  out.setUint16(16, file.chunkHeaderLength, true);
  if (current === undefined) return bytes;
  out.setUint16(18, CURRENT.indexOf(current.kind) + 1, true);
  out.setUint32(20, current.fill, true);
  out.setFloat64(24, current.left, true);
  return bytes;
}

/** The state that `stateBytes` has written. */
export function stateFrom(bytes: Uint8Array): SparseState {
  const from = view(bytes);
  const [blockSize, blocks, chunks, chunksRead] = [0, 4, 8, 12].map((at) => from.getUint32(at, true));
  const kind = CURRENT[from.getUint16(18, true) - 1];
  const current =
    kind === undefined
      ? undefined
      : { kind, left: from.getFloat64(24, true), fill: from.getUint32(20, true) };
  return {
    file: { blockSize, blocks, chunks, chunkHeaderLength: from.getUint16(16, true) },
    chunksRead,
    current,
  };
}
