// What block status has told of one disk's holes and data, kept true while the disk is written to.
//
// Filled by the replies to BLOCK_STATUS, asked by LSEEK. Our own writes are only noted on their way
// out (a few stores each, and none while nothing is known), and applied before the next question.
// Bounded: past its limits everything is forgotten, which costs a question, never a wrong answer.

import { NBD_CMD_WRITE } from '../../nbd/constants.js';
import { placeExtents, readsAsZeros } from '../../nbd/extents.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { toBigInt } from '../memory/u64.js';
import type { ChangedBytes } from './lost-copies.js';

/** A run of bytes [start, end) that is all hole or all not. */
export interface Extent {
  start: bigint;
  end: bigint;
  readonly hole: boolean;
}

const MAX_EXTENTS = 65_536;
const MAX_NOTES = 4096;

/** Milliseconds for which what is kept is believed: another client may write where there was a hole. */
const MAX_AGE = 10_000;

/** See the file's head. */
export class ExtentMap {
  readonly #keep: boolean;
  readonly #notes = new Uint32Array(MAX_NOTES * 3);
  #noteCount = 0;
  #overflow = false;
  #asking = 0;
  #extents: Extent[] = [];
  /** When the oldest of what is kept may have been told. */
  #since = 0;

  /** @param keep false: each LSEEK starts with an empty map */
  constructor(keep: boolean) {
    this.#keep = keep;
  }

  /** A new question of a program begins: what answered another is only believed if it is kept, and not for long. */
  begin(now = performance.now()): void {
    if (!this.#keep || now - this.#since > MAX_AGE) {
      this.#extents = [];
      this.#since = now;
    }
  }

  /** What is known of the byte at `offset`: the run that it is in. */
  at(offset: bigint): Extent | undefined {
    this.#apply();
    const extent = this.#extents[this.#search(offset)];
    return extent !== undefined && extent.start <= offset ? extent : undefined;
  }

  /** Bytes of [0, end) that are known to be holes, and up to where all is known. */
  summary(size: bigint): { holes: bigint; known: bigint } {
    this.#apply();
    let holes = 0n;
    let known = 0n;
    for (const extent of this.#extents) {
      if (extent.start !== known) break;
      known = extent.end < size ? extent.end : size;
      if (extent.hole) holes += known - extent.start;
    }
    return { holes, known };
  }

  /**
   * A BLOCK_STATUS goes out: from now on writes must be noted, and so must those `underWay`, sent and
   * not answered: the server may look before it does them.
   */
  asked(underWay: Iterable<ChangedBytes>): void {
    this.#asking++;
    for (const change of underWay) this.wrote(change);
  }

  /** A BLOCK_STATUS will not be answered: its connection is lost, and it will be asked again. */
  gaveUp(): void {
    this.#asking = Math.max(0, this.#asking - 1);
    this.#apply();
  }

  /** A command that changes the disk goes out. */
  wrote(command: ChangedBytes): void {
    if (this.#asking === 0 && this.#extents.length === 0) return;
    if (this.#noteCount === MAX_NOTES || command.type !== NBD_CMD_WRITE) {
      this.#overflow = true;
      return;
    }
    const at = this.#noteCount++ * 3;
    this.#notes[at] = command.offsetHi;
    this.#notes[at + 1] = command.offsetLo;
    this.#notes[at + 2] = command.length;
  }

  /** The reply to a BLOCK_STATUS; without extents it was an error. */
  answered(command: NbdCommand): void {
    this.#asking = Math.max(0, this.#asking - 1);
    const told = command.extents;
    if (told === undefined || this.#overflow) {
      this.#apply();
      return;
    }
    const run: Extent[] = [];
    const offset = toBigInt(command.offsetHi, command.offsetLo);
    // Lengths and flags by turns.
    const lengthOf = (index: number): number => told[index * 2];
    placeExtents(offset, told.length >> 1, lengthOf, (index, start, end) => {
      run.push({ start, end, hole: readsAsZeros(told[index * 2 + 1]) });
    });
    if (run.length > 0) this.#set(run);
    if (this.#extents.length > MAX_EXTENTS) this.#extents = this.#extents.slice(-1);
    this.#apply();
  }

  /** Makes all writes that were noted data, or forgets everything when they were too many. */
  #apply(): void {
    if (this.#overflow) this.#extents = [];
    else {
      for (let i = 0; i < this.#noteCount; i++) {
        const start = toBigInt(this.#notes[i * 3], this.#notes[i * 3 + 1]);
        const end = start + BigInt(this.#notes[i * 3 + 2]);
        if (this.#extents.length > 0 && end > start) this.#set([{ start, end, hole: false }]);
      }
    }
    if (this.#asking > 0) return;
    this.#overflow = false;
    this.#noteCount = 0;
  }

  /** Index of the first run that ends after `offset`. */
  #search(offset: bigint): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#extents[middle].end <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Puts runs without gaps in, over whatever was there, and joins them with equal neighbours. */
  #set(runs: readonly Extent[]): void {
    const { start } = runs[0];
    const { end } = runs[runs.length - 1];
    const first = this.#search(start);
    let last = first;
    const before = this.#extents[first];
    const pieces =
      before !== undefined && before.start < start ? [{ ...before, end: start }, ...runs] : [...runs];
    while (last < this.#extents.length && this.#extents[last].start < end) {
      const over = this.#extents[last++];
      if (over.end > end) pieces.push({ ...over, start: end });
    }
    const merged = joined(pieces);
    // All at once: one by one they would move what lies behind them each time.
    this.#extents.splice(first, last - first, ...merged);
    this.#joinAt(first + merged.length - 1);
    this.#joinAt(first - 1);
  }

  #joinAt(index: number): void {
    const one = this.#extents[index];
    const next = this.#extents[index + 1];
    if (one === undefined || next === undefined || one.end !== next.start || one.hole !== next.hole) return;
    one.end = next.end;
    this.#extents.splice(index + 1, 1);
  }
}

function joined(pieces: readonly Extent[]): Extent[] {
  const result: Extent[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    if (last !== undefined && last.end === piece.start && last.hole === piece.hole) last.end = piece.end;
    else result.push(piece);
  }
  return result;
}
