// Decodes an Android sparse image as `simg2img` does: holes are zeros, and checksums are not compared, since a decoder
// that begins in the middle does not know the bytes before it. Decoding can restart at every chunk.

import type { Decoder, RestartPoint } from '../contract/coding.js';
import {
  CHUNK_HEADER_LENGTH,
  type CurrentChunk,
  checkEnd,
  FILE_HEADER_LENGTH,
  MAX_HEADER_LENGTH,
  NUMBER_LENGTH,
  parseChunkHeader,
  parseFileHeader,
  type SparseState,
  sparseError,
  stateBytes,
  stateFrom,
} from './android-sparse-format.js';
import { InputQueue } from './input-queue.js';
import { PointCollector } from './point-collector.js';

/** The result of a step that cannot go on: there is no input, or the file has ended. */
const STOPPED = -1;

class AndroidSparseDecoder implements Decoder {
  readonly warning = undefined;
  readonly #input: InputQueue;
  readonly #points: PointCollector;
  readonly #header = new Uint8Array(MAX_HEADER_LENGTH + NUMBER_LENGTH);
  #gathered = 0;
  #file: SparseState['file'] | undefined;
  #chunksRead = 0;
  #current: CurrentChunk | undefined;
  /** Bytes of the file that have no meaning, before the next header. */
  #unread = 0;
  #out: number;
  #ended = false;
  #failure: unknown;

  constructor(from: RestartPoint, spacing: number) {
    this.#input = new InputQueue(from.in);
    this.#points = new PointCollector(from.out, spacing);
    this.#out = from.out;
    if (from.state === undefined) return;
    const { file, chunksRead, current } = stateFrom(from.state);
    this.#file = file;
    this.#chunksRead = chunksRead;
    this.#current = current;
  }

  get wanted(): number {
    return this.#input.end;
  }

  get out(): number {
    return this.#out;
  }

  get verified(): number {
    return this.#out;
  }

  get ended(): boolean {
    return this.#ended;
  }

  push(bytes: Uint8Array, isLast: boolean): void {
    if (!this.#ended) this.#input.push(bytes, isLast);
  }

  pull(output: Uint8Array): number {
    if (this.#failure !== undefined) throw this.#failure;
    let made = 0;
    try {
      while (made < output.length && !this.#ended) {
        const some = this.#step(output.subarray(made));
        if (some === STOPPED) break;
        made += some;
        this.#out += some;
      }
    } catch (error) {
      this.#failure = error;
      if (made === 0) throw error;
    }
    return made;
  }

  takePoints(): readonly RestartPoint[] {
    return this.#points.take(this.#out);
  }

  close(): void {
    this.#input.clear();
  }

  #step(output: Uint8Array): number {
    if (this.#unread > 0) return this.#pass();
    if (this.#current !== undefined) return this.#decode(this.#current, output);
    return this.#file === undefined ? this.#begin() : this.#beginChunk(this.#file);
  }

  #pass(): number {
    const count = Math.min(this.#unread, this.#input.length);
    this.#input.consume(count);
    this.#unread -= count;
    return count === 0 ? this.#starve() : 0;
  }

  /** Reads on in a header. @returns whether it has `count` bytes */
  #gather(count: number): boolean {
    this.#gathered += this.#input.take(this.#header, this.#gathered, count - this.#gathered);
    return this.#gathered >= count;
  }

  #begin(): number {
    if (!this.#gather(FILE_HEADER_LENGTH)) return this.#starve();
    const { length, ...file } = parseFileHeader(this.#header);
    this.#file = file;
    this.#gathered = 0;
    this.#unread = length - FILE_HEADER_LENGTH;
    return 0;
  }

  #beginChunk(file: SparseState['file']): number {
    const place = { in: this.#input.position - this.#gathered, out: this.#out };
    if (this.#chunksRead === file.chunks) return this.#end(file);
    if (this.#gathered === 0 && this.#chunksRead > 0)
      this.#points.offer(
        place.in,
        place.out,
        stateBytes({ file, chunksRead: this.#chunksRead, current: undefined }),
      );
    if (!this.#gather(file.chunkHeaderLength)) return this.#starve();
    const header = this.#header.subarray(0, CHUNK_HEADER_LENGTH);
    const { kind, size, stored } = parseChunkHeader(header, file, place);
    if (kind === 'fill' && !this.#gather(file.chunkHeaderLength + NUMBER_LENGTH)) return this.#starve();
    const fill = new DataView(this.#header.buffer).getUint32(file.chunkHeaderLength, true);
    this.#gathered = 0;
    this.#chunksRead += 1;
    if (kind === 'checksum') this.#unread = stored;
    else if (size > 0) this.#current = { kind, left: size, fill };
    return 0;
  }

  #decode({ kind, left, fill }: CurrentChunk, output: Uint8Array): number {
    const room = Math.min(left, output.length);
    let made = room;
    if (kind === 'raw') made = this.#input.take(output, 0, room);
    else if (kind === 'hole' || fill === 0) output.fill(0, 0, room);
    else repeat(fill, left, output.subarray(0, room));
    if (made === 0) return this.#starve();
    this.#current = made === left ? undefined : { kind, left: left - made, fill };
    return made;
  }

  #end(file: SparseState['file']): number {
    checkEnd(file, { in: this.#input.position, out: this.#out });
    this.#ended = true;
    this.#input.clear();
    return STOPPED;
  }

  #starve(): number {
    const { isLast, isEmpty, position } = this.#input;
    if (isLast && isEmpty) throw sparseError('truncated', 'ends too early', { in: position, out: this.#out });
    return STOPPED;
  }
}

/** Fills `output` with a number. @param left bytes to the end of the chunk, a multiple of the number's length */
function repeat(fill: number, left: number, output: Uint8Array): void {
  const first = (NUMBER_LENGTH - (left % NUMBER_LENGTH)) % NUMBER_LENGTH;
  for (let at = 0; at < Math.min(NUMBER_LENGTH, output.length); at++)
    output[at] = fill >>> (8 * ((first + at) % NUMBER_LENGTH));
  for (let done = NUMBER_LENGTH; done < output.length; done *= 2) output.copyWithin(done, 0, done);
}

/** @param spacing least number of decoded bytes between two points */
export const createAndroidSparseDecoder = (from: RestartPoint, spacing: number): Decoder =>
  new AndroidSparseDecoder(from, spacing);
