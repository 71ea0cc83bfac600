// Reading ahead of sequential readers of far servers, where the kernel does not read far enough ahead.
//
// Asked by data-requests.ts for every READ through the page cache. Keeps segments of 1 MiB, aligned,
// that hold what the server has sent or will send; a READ that lies in them is answered from there, or
// when they have come. A stream's window doubles while its reader still has to wait, and halves when
// segments turn out not to be wanted. A write drops the segments that it touches, and none is fetched
// where a write is under way: a segment never holds bytes from before a write that was answered.

import { OUT_HEADER } from '../../fuse/layout.js';
import { libc } from '../../linux/libc.js';
import { NBD_CMD_READ } from '../../nbd/constants.js';
import type { Disk } from '../disk/disk.js';
import { OPERATION_OWN, type Operation, type Task } from '../flight/fuse-request.js';
import { type Block, HEADROOM } from '../memory/buffer-pool.js';
import { COUNTER } from '../stats/counters.js';
import type { Engine } from './engine.js';
import { type Stream, Streams } from './sequential.js';
import { onDisk, readFromServer, submitPieces } from './split.js';

const SEGMENT_BITS = 20;
const SEGMENT = 1 << SEGMENT_BITS;

/** Segments in memory at most, for all disks of a worker. */
const MOST_SEGMENTS = 48;

/** READs in a row that make a stream. */
const LEAST_RUN = 2;

/** Milliseconds after which a segment that nobody wanted is not believed any more. */
const OLDEST = 10_000;

interface Segment {
  readonly disk: Disk;
  readonly index: number;
  readonly stream: Stream<Disk>;
  readonly operation: Operation;
  /** What came; undefined while it is awaited. */
  block: Block | undefined;
  /** Dropped while it was awaited. */
  dropped: boolean;
  used: boolean;
  landedAt: number;
  readonly waiters: Operation[];
}

/** Number of the segment in which byte (hi, lo) lies: exact, since it is below 2^43. */
function segmentOf(hi: number, lo: number): number {
  return hi * 2 ** (32 - SEGMENT_BITS) + (lo >>> SEGMENT_BITS);
}

/** See the file's head. */
export class Readahead {
  readonly #engine: Engine;
  readonly #streams = new Streams<Disk>();
  #segments: Segment[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Takes note of a READ with one thing pending, and answers it, now or later, from what was read ahead.
   * False: the server has to be asked for it.
   */
  read(operation: Operation, disk: Disk): boolean {
    if (!disk.latency.far || disk.waiting) return false;
    const { offsetHi: hi, offsetLo: lo, length } = operation;
    const at = hi * 2 ** 32 + lo;
    const stream = this.#streams.follow(disk, at, length, this.#engine.now());
    const first = this.#find(disk, segmentOf(hi, lo));
    const last = this.#find(disk, lastSegment(hi, lo, length));
    const taken = this.#answer(operation, first, last) || this.#await(operation, disk, stream, first, last);
    if (stream.run >= LEAST_RUN) this.#extend(stream, disk, hi, lo, length);
    return taken;
  }

  /** Drops what was read ahead of `length` bytes at (hi, lo), since they are about to change. */
  drop(disk: Disk, hi: number, lo: number, length: number): void {
    if (this.#segments.length === 0) return;
    const first = segmentOf(hi, lo);
    const last = lastSegment(hi, lo, length);
    this.#discard((one) => one.disk === disk && one.index >= first && one.index <= last);
  }

  /** Drops everything of a disk. */
  dropAll(disk: Disk): void {
    if (this.#segments.length > 0) this.#discard((one) => one.disk === disk);
  }

  /** Answers a READ from segments that are there; false when one is missing or awaited. */
  #answer(operation: Operation, first: Segment | undefined, last: Segment | undefined): boolean {
    if (first?.block === undefined || last?.block === undefined) return false;
    const at = operation.offsetLo & (SEGMENT - 1);
    if (first === last) this.#reply(operation, first.block, at);
    else this.#gather(operation, first.block, last.block, at);
    operation.answered = true;
    first.used = true;
    last.used = true;
    first.disk.counters[COUNTER.prefetchHits]++;
    // What was read to its end has done its duty: the kernel keeps it.
    if (at + operation.length >= SEGMENT) this.#remove((one) => one === first);
    return true;
  }

  /** Lets a READ wait for its segments, when all of them are on their way. */
  #await(
    operation: Operation,
    disk: Disk,
    stream: Stream<Disk>,
    first: Segment | undefined,
    last: Segment | undefined,
  ): boolean {
    if (first === undefined || last === undefined) return false;
    stream.widen();
    for (const segment of first === last ? [first] : [first, last]) {
      if (segment.block !== undefined) continue;
      operation.pending++;
      segment.waiters.push(operation);
    }
    operation.task = this.#answerLater(operation, disk);
    return true;
  }

  *#answerLater(operation: Operation, disk: Disk): Task {
    if (operation.answered) return;
    const { offsetHi: hi, offsetLo: lo, length } = operation;
    const first = this.#find(disk, segmentOf(hi, lo));
    if (this.#answer(operation, first, this.#find(disk, lastSegment(hi, lo, length)))) return;
    // It was dropped, or the server failed: that is for who asked to hear from the server itself.
    readFromServer(this.#engine, operation, disk);
    yield;
  }

  /** Fetches what the stream will want next. */
  #extend(stream: Stream<Disk>, disk: Disk, hi: number, lo: number, length: number): void {
    const next = segmentOf(hi, lo) + ((lo & (SEGMENT - 1)) + length >= SEGMENT ? 1 : 0);
    for (let index = next; index < next + stream.window; index++) {
      if (this.#find(disk, index) !== undefined) continue;
      if (!this.#fetch(stream, disk, index)) return;
    }
  }

  #fetch(stream: Stream<Disk>, disk: Disk, index: number): boolean {
    const engine = this.#engine;
    const hi = Math.floor(index / 2 ** (32 - SEGMENT_BITS));
    const lo = (index * SEGMENT) >>> 0;
    const length = onDisk(disk, hi, lo, SEGMENT);
    if (length === 0 || engine.blocks.exhausted || !this.#makeRoom()) return false;
    if (engine.operations.changing(disk, hi, lo, length)) return false;
    const operation = engine.begin(OPERATION_OWN, disk);
    operation.offsetHi = hi;
    operation.offsetLo = lo;
    operation.length = length;
    operation.block = engine.blocks.take(SEGMENT);
    operation.blockAt = HEADROOM;
    const segment: Segment = {
      disk,
      index,
      stream,
      operation,
      block: undefined,
      dropped: false,
      used: false,
      landedAt: 0,
      waiters: [],
    };
    this.#segments.push(segment);
    submitPieces(engine, operation, disk, NBD_CMD_READ, 0, hi, lo, length, undefined, HEADROOM);
    engine.run(operation, this.#land(segment));
    disk.counters[COUNTER.prefetched] += length;
    return true;
  }

  /** All that a segment was fetched by has been answered. */
  *#land(segment: Segment): Task {
    const { block, error } = segment.operation;
    if (error !== 0) this.#remove((one) => one === segment);
    else if (block !== undefined && !segment.dropped) {
      block.references++;
      segment.block = block;
      segment.landedAt = this.#engine.now();
    }
    for (const waiter of segment.waiters) this.#engine.settle(waiter);
  }

  #find(disk: Disk, index: number): Segment | undefined {
    for (const one of this.#segments) {
      if (one.index !== index || one.disk !== disk) continue;
      if (one.block === undefined || this.#engine.now() - one.landedAt < OLDEST) return one;
      this.#discard((other) => other === one);
      return undefined;
    }
    return undefined;
  }

  /** Whether there is room for one more, maybe after the oldest that nobody wanted has gone. */
  #makeRoom(): boolean {
    if (this.#segments.length < MOST_SEGMENTS) return true;
    let oldest: Segment | undefined;
    for (const one of this.#segments) {
      if (one.block === undefined) continue;
      if (oldest === undefined || one.stream.usedAt < oldest.stream.usedAt) oldest = one;
    }
    // A stream that is as fresh as can be keeps what it has.
    if (oldest === undefined || oldest.stream.usedAt === this.#engine.now()) return false;
    this.#discard((one) => one === oldest);
    return true;
  }

  /** Takes segments out, used or not: what was not used was fetched in vain, so its stream gets less. */
  #discard(which: (segment: Segment) => boolean): void {
    for (const one of this.#segments) {
      if (one.used || !which(one)) continue;
      one.stream.narrow();
      one.disk.counters[COUNTER.prefetchWaste] += SEGMENT;
    }
    this.#remove(which);
  }

  #remove(which: (segment: Segment) => boolean): void {
    this.#segments = this.#segments.filter((one) => {
      if (!which(one)) return true;
      one.dropped = true;
      if (one.block !== undefined) this.#engine.blocks.release(one.block);
      one.block = undefined;
      return false;
    });
  }

  /** Answers from the middle of a segment: the header takes the place of 16 of its bytes for a moment. */
  #reply(operation: Operation, { view, address }: Block, at: number): void {
    const header = HEADROOM + at - OUT_HEADER;
    const a = view.getUint32(header);
    const b = view.getUint32(header + 4);
    const c = view.getUint32(header + 8);
    const d = view.getUint32(header + 12);
    const length = OUT_HEADER + operation.length;
    this.#engine.device.reply(view, header, address + header, length, 0, operation);
    view.setUint32(header, a);
    view.setUint32(header + 4, b);
    view.setUint32(header + 8, c);
    view.setUint32(header + 12, d);
  }

  /** Answers with the end of one segment and the beginning of the next. */
  #gather(operation: Operation, first: Block, last: Block, at: number): void {
    const block = this.#engine.blocks.take(operation.length);
    const before = SEGMENT - at;
    libc.memcpy(block.address + HEADROOM, first.address + HEADROOM + at, before);
    libc.memcpy(block.address + HEADROOM + before, last.address + HEADROOM, operation.length - before);
    this.#reply(operation, block, 0);
    this.#engine.blocks.release(block);
  }
}

/** Number of the segment in which the last of `length` bytes at (hi, lo) lies. */
function lastSegment(hi: number, lo: number, length: number): number {
  return segmentOf(hi, lo) + Math.floor(((lo & (SEGMENT - 1)) + length - 1) / SEGMENT);
}
