// Finds the restart points of an Android sparse image from the headers of its chunks, without their data.

import { type Input, type PointIndex, type RestartPoint, START } from '../contract/coding.js';
import {
  CHUNK_HEADER_LENGTH,
  checkEnd,
  FILE_HEADER_LENGTH,
  NUMBER_LENGTH,
  type Place,
  parseChunkHeader,
  parseFileHeader,
  type SparseState,
  sizeOf,
  sparseError,
  stateBytes,
} from '../decode/android-sparse-format.js';

/** Bytes that are read at once: small chunks lie close together. */
const WINDOW = 65_536;
/** Decoded bytes between two points, and the most points: of a larger image they are further apart. */
const SPACING = 4 * 1024 * 1024;
const MAX_POINTS = 0x10000;

/** Reads short parts of a file in rising order. */
class HeaderReader {
  readonly #input: Input;
  #start = 0;
  #window: Uint8Array = new Uint8Array(0);

  constructor(input: Input) {
    this.#input = input;
  }

  /** @throws DecodeError if the file ends before; the errors of the input */
  async read(length: number, place: Place): Promise<Uint8Array> {
    const { size } = this.#input;
    const at = place.in;
    if (at + length > size) throw sparseError('truncated', 'ends too early', place);
    if (at + length > this.#start + this.#window.length) {
      this.#window = await this.#input.read(at, Math.min(WINDOW, size - at));
      this.#start = at;
    }
    return this.#window.subarray(at - this.#start, at - this.#start + length);
  }
}

/** The distance of the points of an image: a hole of 40 bytes in the file may be an image of petabytes. */
const spacingOf = (file: SparseState['file']): number =>
  Math.max(SPACING, Math.ceil(sizeOf(file) / MAX_POINTS / SPACING) * SPACING);

/** The points within a chunk that begins at `place`, whose data follow there. @param last the point before */
function* pointsWithin(state: SparseState, place: Place, last: RestartPoint): Generator<RestartPoint> {
  const { current, file } = state;
  if (current === undefined) return;
  const spacing = spacingOf(file);
  for (let out = Math.max(last.out + spacing, place.out); out < place.out + current.left; out += spacing) {
    const done = out - place.out;
    const within = { ...state, current: { ...current, left: current.left - done } };
    yield { in: current.kind === 'raw' ? place.in + done : place.in, out, state: stateBytes(within) };
  }
}

/**
 * The points of an image, also within long chunks.
 * @throws DecodeError if the image is damaged; the errors of the input
 */
export async function findAndroidSparsePoints(input: Input): Promise<PointIndex> {
  const reader = new HeaderReader(input);
  const { length, ...file } = parseFileHeader(await reader.read(FILE_HEADER_LENGTH, START));
  let last = START;
  const points = [last];
  let [at, out] = [length, 0];
  for (let chunksRead = 1; chunksRead <= file.chunks; chunksRead++) {
    const place = { in: at, out };
    const header = await reader.read(CHUNK_HEADER_LENGTH, place);
    const { kind, size, stored } = parseChunkHeader(header, file, place);
    at += file.chunkHeaderLength;
    if (at + stored > input.size) throw sparseError('truncated', 'ends too early', place);
    const number = kind === 'fill' ? await reader.read(NUMBER_LENGTH, { in: at, out }) : undefined;
    const fill = number === undefined ? 0 : Buffer.from(number).readUInt32LE(0);
    if (kind !== 'checksum') {
      const data = { in: kind === 'fill' ? at + stored : at, out };
      const state = { file, chunksRead, current: { kind, left: size, fill } };
      for (last of pointsWithin(state, data, last)) points.push(last);
    }
    at += stored;
    out += size;
  }
  checkEnd(file, { in: at, out });
  return { size: out, points };
}
