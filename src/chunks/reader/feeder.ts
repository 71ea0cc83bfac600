// Fetches the compressed bytes of one task in order, ahead of its decoder.

import { type Input, MAX_READ } from '../contract/coding.js';

/** Bytes of one read: large enough for a distant server, small enough that decoding begins soon. */
const PIECE = 1024 * 1024;
/** Most bytes that are fetched or waiting for the decoder. */
const WINDOW = 8 * PIECE;
/** Bytes behind the end of a chunk that its decoder may need: the check of its last block, a small index. */
const SLACK = 64 * 1024;

/** The needs of a feeder from its task. */
export interface FeederOptions {
  readonly input: Input;
  /** The first byte. */
  readonly at: number;
  /** The byte behind which the decoder probably needs none; it may ask for more. */
  readonly end: number | undefined;
  readonly give: (bytes: Uint8Array, isLast: boolean) => void;
  readonly fail: (error: unknown) => void;
  /** Counts fetched bytes. */
  readonly count: (bytes: number) => void;
}

export class Feeder {
  readonly #options: FeederOptions;
  /** The offset behind the last read that was begun. */
  #asked: number;
  /** The offset behind the last byte that was given to the decoder. */
  #given: number;
  /** The offset of the next byte that the decoder needs. */
  #wanted: number;
  #end: number;
  readonly #pieces = new Map<number, Uint8Array>();
  #isClosed = false;

  constructor(options: FeederOptions) {
    const { at, end, input } = options;
    this.#options = options;
    this.#asked = this.#given = this.#wanted = at;
    this.#end = Math.min(input.size, end === undefined ? input.size : end + SLACK);
  }

  start(): void {
    // An empty file, or a point at its end.
    if (this.#given >= this.#options.input.size) this.#options.give(new Uint8Array(0), true);
    else this.#fetch();
  }

  /** Notes how far the decoder has come. @param isHungry it has nothing left */
  progress(wanted: number, isHungry: boolean): void {
    this.#wanted = Math.max(this.#wanted, wanted);
    if (isHungry && this.#given >= this.#end)
      this.#end = Math.min(this.#options.input.size, this.#end + PIECE);
    this.#fetch();
  }

  close(): void {
    this.#isClosed = true;
    this.#pieces.clear();
  }

  #fetch(): void {
    while (!this.#isClosed && this.#asked < this.#end && this.#asked - this.#wanted < WINDOW) {
      const length = Math.min(PIECE, MAX_READ, this.#end - this.#asked);
      void this.#read(this.#asked, length);
      this.#asked += length;
    }
  }

  async #read(offset: number, length: number): Promise<void> {
    const { input, fail, count } = this.#options;
    try {
      const bytes = await input.read(offset, length);
      count(bytes.length);
      this.#pieces.set(offset, bytes);
    } catch (error) {
      if (!this.#isClosed) fail(error);
      return;
    }
    this.#give();
  }

  /** Gives the parts that are next. */
  #give(): void {
    for (;;) {
      const bytes = this.#isClosed ? undefined : this.#pieces.get(this.#given);
      if (bytes === undefined) return;
      this.#pieces.delete(this.#given);
      this.#given += bytes.length;
      this.#options.give(bytes, this.#given >= this.#options.input.size);
    }
  }
}
