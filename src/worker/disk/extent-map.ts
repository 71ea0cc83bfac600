// The known holes and data of a disk, from block status, kept correct while the disk is written to.
//
// Replies to BLOCK_STATUS fill it; LSEEK uses it. Sending a write only records it (a few stores, none while the map is
// empty); the next lookup applies it. The map is bounded: beyond its limits it forgets everything, which costs one more
// BLOCK_STATUS and never gives a wrong answer.

import { NBD_CMD_WRITE } from '../../nbd/constants.js';
import { placeExtents, readsAsZeros } from '../../nbd/extents.js';
import type { NbdCommand } from '../flight/nbd-command.js';
import { toBigInt } from '../memory/u64.js';
import type { ChangedBytes } from './changes.js';

/** A byte range [start, end) that is all hole or all data. */
export interface Extent {
  start: bigint;
  end: bigint;
  readonly hole: boolean;
}

const MAX_EXTENTS = 65_536;
const MAX_NOTES = 4096;

/** Milliseconds for which an extent is cached: another client may write to a hole. */
export const MAX_AGE = 10_000;

/** See the file's head. */
export class ExtentMap {
  readonly #keep: boolean;
  readonly #notes = new Uint32Array(MAX_NOTES * 3);
  #noteCount = 0;
  #overflow = false;
  #asking = 0;
  #extents: Extent[] = [];
  /** The extents of the last reply, while `recordReplies` says so. Not all of them need be in the map. */
  #reply: readonly Extent[] = [];
  #recordsReplies = false;
  /** Time of the oldest cached reply. */
  #since = 0;

  /** @param keep false: each LSEEK starts with an empty map */
  constructor(keep: boolean) {
    this.#keep = keep;
  }

  /** Begins an LSEEK: drops extents that are too old, or all of them without `keep`. @param now milliseconds */
  begin(now: number): void {
    if (!this.#keep || now - this.#since > MAX_AGE) {
      this.#extents = [];
      this.#since = now;
    }
  }

  /** The extent that contains `offset`; undefined if unknown. */
  at(offset: bigint): Extent | undefined {
    this.#apply();
    const extent = this.#extents[this.#search(offset)];
    return extent !== undefined && extent.start <= offset ? extent : undefined;
  }

  /** The gapless known part from `start` on: its end, at most `size`, and the bytes of holes in it. */
  run(start: bigint, size: bigint): Run {
    this.#apply();
    return runOf(this.#extents, this.#search(start), start, size);
  }

  /** The same for the extents of the last reply, as they were when the server looked. */
  repliedRun(start: bigint, size: bigint): Run {
    return runOf(this.#reply, 0, start, size);
  }

  /** Lets `repliedRun` know each reply, until it is off again. */
  recordReplies(on: boolean): void {
    this.#recordsReplies = on;
    this.#reply = [];
  }

  /**
   * Records that a BLOCK_STATUS is sent. From now on writes must be recorded, and so must the sent and unanswered ones
   * in `underWay`: the server may look at the disk before it carries them out.
   */
  querySent(underWay: Iterable<ChangedBytes>): void {
    this.#asking++;
    for (const change of underWay) this.wrote(change);
  }

  /** Records that a BLOCK_STATUS is lost with its connection. A copy of it will be sent. */
  gaveUp(): void {
    this.#asking = Math.max(0, this.#asking - 1);
    this.#apply();
  }

  /** Records a change that is sent. */
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

  /** Enters the reply to a BLOCK_STATUS. Without extents the server has failed it. */
  answered(command: NbdCommand): void {
    this.#asking = Math.max(0, this.#asking - 1);
    const reply = repliedExtents(command);
    // The map changes its extents in place.
    if (this.#recordsReplies) this.#reply = reply.map((extent) => ({ ...extent }));
    if (reply.length > 0 && !this.#overflow) {
      this.#set(reply);
      if (this.#extents.length > MAX_EXTENTS) this.#extents = this.#extents.slice(-1);
    }
    this.#apply();
  }

  /** Turns the recorded writes into data, or forgets everything if there were too many. */
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

  /** Index of the first extent that ends after `offset`. */
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

  /** Replaces a part of the map by adjacent extents and joins equal neighbours. */
  #set(runs: readonly Extent[]): void {
    const { start } = runs[0];
    const { end } = runs[runs.length - 1];
    const first = this.#search(start);
    let last = first;
    const before = this.#extents[first];
    const parts =
      before !== undefined && before.start < start ? [{ ...before, end: start }, ...runs] : [...runs];
    while (last < this.#extents.length && this.#extents[last].start < end) {
      const over = this.#extents[last++];
      if (over.end > end) parts.push({ ...over, start: end });
    }
    const merged = joined(parts);
    // One splice: inserting them one by one would move the rest of the array each time.
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

/** A gapless part of a disk. */
export interface Run {
  readonly holes: bigint;
  readonly end: bigint;
}

/** @param first the first index of `extents` to look at */
function runOf(extents: readonly Extent[], first: number, start: bigint, size: bigint): Run {
  let holes = 0n;
  let end = start;
  for (let i = first; i < extents.length && end < size; i++) {
    const extent = extents[i];
    if (extent.start > end) break;
    if (extent.end <= end) continue;
    const next = extent.end < size ? extent.end : size;
    if (extent.hole) holes += next - end;
    end = next;
  }
  return { holes, end };
}

/** The extents in the reply to a BLOCK_STATUS; none if the server has failed it. */
function repliedExtents({ extents = [], offsetHi, offsetLo }: NbdCommand): Extent[] {
  const run: Extent[] = [];
  // Lengths and flags by turns.
  const lengthOf = (index: number): number => extents[index * 2];
  placeExtents(toBigInt(offsetHi, offsetLo), extents.length >> 1, lengthOf, (index, start, end) => {
    run.push({ start, end, hole: readsAsZeros(extents[index * 2 + 1]) });
  });
  return run;
}

function joined(parts: readonly Extent[]): Extent[] {
  const result: Extent[] = [];
  for (const part of parts) {
    const last = result.at(-1);
    if (last !== undefined && last.end === part.start && last.hole === part.hole) last.end = part.end;
    else result.push(part);
  }
  return result;
}
