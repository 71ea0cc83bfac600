// The standard error of a server, kept until somebody wants it.

import { printable } from '../nbd/text.js';
import type { StderrSink } from './source.js';

/** Bytes that are kept, from the end. */
const KEPT_LENGTH = 4096;

/** See the file's head. */
export class KeptOutput {
  #kept: Buffer = Buffer.alloc(0);
  #sink: StderrSink | undefined;

  get isEmpty(): boolean {
    return this.#kept.length === 0;
  }

  /** The last line, escaped; empty: there is none. */
  get lastLine(): string {
    return printable(this.#kept.toString().trim().split('\n').at(-1) ?? '');
  }

  take(chunk: Buffer): void {
    if (this.#sink === undefined) this.#kept = Buffer.concat([this.#kept, chunk]).subarray(-KEPT_LENGTH);
    else this.#sink(chunk);
  }

  /** Passes the kept bytes, and all that come, to `sink`. */
  passOn(sink: StderrSink): void {
    if (!this.isEmpty) sink(this.#kept);
    this.#sink = sink;
  }
}
