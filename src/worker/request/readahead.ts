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
import { type FuseRequest, SPECULATIVE, type Task } from '../flight/fuse-request.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { COUNTER } from '../stats/counters.js';
import type { Engine } from './engine.js';
import { type PrefetchedBytes, readFromServer } from './read.js';
import { type SequentialStream, SequentialStreams } from './sequential.js';

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
  readonly stream: SequentialStream<Disk>;
  readonly request: FuseRequest;
  /** What came; undefined while it is awaited. */
  buffer: PooledBuffer | undefined;
  /** Dropped while it was awaited. */
  dropped: boolean;
  used: boolean;
  landedAt: number;
  readonly waiters: FuseRequest[];
}

/** Number of the segment in which byte (hi, lo) lies: exact, since it is below 2^43. */
function segmentOf(hi: number, lo: number): number {
  return hi * 2 ** (32 - SEGMENT_BITS) + (lo >>> SEGMENT_BITS);
}

/** See the file's head. */
export class Readahead implements PrefetchedBytes {
  readonly #engine: Engine;
  readonly #streams = new SequentialStreams<Disk>();
  #segments: Segment[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Takes note of a READ with one thing pending, and answers it, now or later, from what was read ahead.
   * False: the server has to be asked for it.
   */
  read(request: FuseRequest, disk: Disk): boolean {
    if (!disk.latency.remote || disk.waiting) return false;
    const { offsetHi: hi, offsetLo: lo, length } = request;
    const at = hi * 2 ** 32 + lo;
    const stream = this.#streams.follow(disk, at, length, this.#engine.now());
    const first = this.#find(disk, segmentOf(hi, lo));
    const last = this.#find(disk, lastSegment(hi, lo, length));
    const taken = this.#answer(request, first, last) || this.#await(request, disk, stream, first, last);
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

  /** Whether any bytes are kept. */
  get any(): boolean {
    return this.#segments.length > 0;
  }

  /** Drops the bytes that are too old to be used. */
  expire(now: number): void {
    if (this.any) this.#discard(({ buffer, landedAt }) => buffer !== undefined && now - landedAt >= OLDEST);
  }

  /** Drops everything, at the end. */
  clear(): void {
    this.#remove(() => true);
  }

  /** Answers a READ from segments that are there; false when one is missing or awaited. */
  #answer(request: FuseRequest, first: Segment | undefined, last: Segment | undefined): boolean {
    if (first?.buffer === undefined || last?.buffer === undefined) return false;
    const at = request.offsetLo & (SEGMENT - 1);
    if (first === last) this.#reply(request, first.buffer, at);
    else this.#gather(request, first.buffer, last.buffer, at);
    request.markAnswered();
    first.used = true;
    last.used = true;
    first.disk.counters[COUNTER.prefetchHits]++;
    // What was read to its end has done its duty: the kernel keeps it.
    if (at + request.length >= SEGMENT) this.#remove((one) => one === first);
    return true;
  }

  /** Lets a READ wait for its segments, when all of them are on their way. */
  #await(
    request: FuseRequest,
    disk: Disk,
    stream: SequentialStream<Disk>,
    first: Segment | undefined,
    last: Segment | undefined,
  ): boolean {
    if (first === undefined || last === undefined) return false;
    stream.widen();
    for (const segment of first === last ? [first] : [first, last]) {
      if (segment.buffer !== undefined) continue;
      request.pending++;
      segment.waiters.push(request);
    }
    request.task = this.#answerLater(request, disk);
    return true;
  }

  *#answerLater(request: FuseRequest, disk: Disk): Task {
    if (request.answered) return;
    const { offsetHi: hi, offsetLo: lo, length } = request;
    const first = this.#find(disk, segmentOf(hi, lo));
    if (this.#answer(request, first, this.#find(disk, lastSegment(hi, lo, length)))) return;
    // It was dropped, or the server failed: that is for who asked to hear from the server itself.
    readFromServer(this.#engine, request, disk);
    yield;
  }

  /** Fetches what the stream will want next. */
  #extend(stream: SequentialStream<Disk>, disk: Disk, hi: number, lo: number, length: number): void {
    const next = segmentOf(hi, lo) + ((lo & (SEGMENT - 1)) + length >= SEGMENT ? 1 : 0);
    for (let index = next; index < next + stream.window; index++) {
      if (this.#find(disk, index) !== undefined) continue;
      if (!this.#fetch(stream, disk, index)) return;
    }
  }

  #fetch(stream: SequentialStream<Disk>, disk: Disk, index: number): boolean {
    const engine = this.#engine;
    const hi = Math.floor(index / 2 ** (32 - SEGMENT_BITS));
    const lo = (index * SEGMENT) >>> 0;
    const length = disk.clip(hi, lo, SEGMENT);
    if (length === 0 || engine.buffers.exhausted || !this.#makeRoom()) return false;
    if (engine.requests.changing(disk, hi, lo, length)) return false;
    const request = engine.begin(SPECULATIVE, disk);
    request.setPlace(hi, lo, length);
    request.buffer = engine.buffers.take(SEGMENT);
    request.bufferAt = HEADROOM;
    const segment: Segment = {
      disk,
      index,
      stream,
      request,
      buffer: undefined,
      dropped: false,
      used: false,
      landedAt: 0,
      waiters: [],
    };
    this.#segments.push(segment);
    const command = engine.command(request, disk, NBD_CMD_READ);
    command.setPlace(hi, lo, length);
    engine.submit(command, disk);
    engine.run(request, this.#land(segment));
    disk.counters[COUNTER.prefetched] += length;
    return true;
  }

  /** All that a segment was fetched by has been answered. */
  *#land(segment: Segment): Task {
    const { buffer, error } = segment.request;
    if (error !== 0) this.#remove((one) => one === segment);
    else if (buffer !== undefined && !segment.dropped) {
      buffer.references++;
      segment.buffer = buffer;
      segment.landedAt = this.#engine.now();
    }
    for (const waiter of segment.waiters) this.#engine.settle(waiter);
  }

  #find(disk: Disk, index: number): Segment | undefined {
    for (const one of this.#segments) {
      if (one.index !== index || one.disk !== disk) continue;
      if (one.buffer === undefined || this.#engine.now() - one.landedAt < OLDEST) return one;
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
      if (one.buffer === undefined) continue;
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
      if (one.buffer !== undefined) this.#engine.buffers.release(one.buffer);
      one.buffer = undefined;
      return false;
    });
  }

  /** Answers from the middle of a segment: the header takes the place of 16 of its bytes for a moment. */
  #reply(request: FuseRequest, { view, address }: PooledBuffer, at: number): void {
    const header = HEADROOM + at - OUT_HEADER;
    const a = view.getUint32(header);
    const b = view.getUint32(header + 4);
    const c = view.getUint32(header + 8);
    const d = view.getUint32(header + 12);
    const length = OUT_HEADER + request.length;
    this.#engine.device.reply(view, header, address + header, length, request);
    view.setUint32(header, a);
    view.setUint32(header + 4, b);
    view.setUint32(header + 8, c);
    view.setUint32(header + 12, d);
  }

  /** Answers with the end of one segment and the beginning of the next. */
  #gather(request: FuseRequest, first: PooledBuffer, last: PooledBuffer, at: number): void {
    const buffer = this.#engine.buffers.take(request.length);
    const before = SEGMENT - at;
    libc.memcpy(buffer.address + HEADROOM, first.address + HEADROOM + at, before);
    libc.memcpy(buffer.address + HEADROOM + before, last.address + HEADROOM, request.length - before);
    this.#reply(request, buffer, 0);
    this.#engine.buffers.release(buffer);
  }
}

/** Number of the segment in which the last of `length` bytes at (hi, lo) lies. */
function lastSegment(hi: number, lo: number, length: number): number {
  return segmentOf(hi, lo) + Math.floor(((lo & (SEGMENT - 1)) + length - 1) / SEGMENT);
}
