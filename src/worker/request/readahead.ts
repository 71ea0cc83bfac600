// Read-ahead for sequential streams on remote servers, where the kernel's own does not reach far enough.
//
// Called for every READ through the page cache. It keeps aligned segments of 1 MiB, received or in flight, and answers
// READs from them. The window of a stream doubles while its reader still waits, and halves when segments go unused.
// A write drops the segments that it touches, and a range with a write in flight is not fetched, so no segment has data
// older than an answered write.

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

/** Most segments in memory, for all disks of a worker. */
const MOST_SEGMENTS = 48;

/** READs in a row that make a stream worth reading ahead. */
const LEAST_RUN = 2;

/** Milliseconds after which an unused segment is too old. */
const OLDEST = 10_000;

interface Segment {
  readonly disk: Disk;
  readonly index: number;
  readonly stream: SequentialStream<Disk>;
  readonly request: FuseRequest;
  /** The data; undefined while they are in flight. */
  buffer: PooledBuffer | undefined;
  /** Whether it was dropped in flight. */
  dropped: boolean;
  used: boolean;
  landedAt: number;
  readonly waiters: FuseRequest[];
}

/** Number of the segment that contains byte (hi, lo): below 2^43, so exact. */
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
   * Records a READ that is pending once, and answers it from segments, now or later. False: the caller must ask the
   * server.
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

  /** Drops the segments of `length` bytes at (hi, lo), which are about to change. */
  drop(disk: Disk, hi: number, lo: number, length: number): void {
    if (this.#segments.length === 0) return;
    const first = segmentOf(hi, lo);
    const last = lastSegment(hi, lo, length);
    this.#discard((one) => one.disk === disk && one.index >= first && one.index <= last);
  }

  /** Drops all segments of a disk. */
  dropAll(disk: Disk): void {
    if (this.#segments.length > 0) this.#discard((one) => one.disk === disk);
  }

  /** Whether there are segments. */
  get any(): boolean {
    return this.#segments.length > 0;
  }

  /** Drops segments that are too old. */
  expire(now: number): void {
    if (this.any) this.#discard(({ buffer, landedAt }) => buffer !== undefined && now - landedAt >= OLDEST);
  }

  /** Drops all segments, at the end. */
  clear(): void {
    this.#remove(() => true);
  }

  /** Answers a READ from received segments. False: one is missing or in flight. */
  #answer(request: FuseRequest, first: Segment | undefined, last: Segment | undefined): boolean {
    if (first?.buffer === undefined || last?.buffer === undefined) return false;
    const at = request.offsetLo & (SEGMENT - 1);
    if (first === last) this.#reply(request, first.buffer, at);
    else this.#gather(request, first.buffer, last.buffer, at);
    request.markAnswered();
    first.used = true;
    last.used = true;
    first.disk.counters[COUNTER.prefetchHits]++;
    // After its last byte a segment has served its purpose: the kernel caches the data.
    if (at + request.length >= SEGMENT) this.#remove((one) => one === first);
    return true;
  }

  /** Makes a READ wait for its segments. False: one is missing. */
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
      request.waitForOne();
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
    // A segment was dropped, or the server failed it: the requester gets the server's own answer.
    readFromServer(this.#engine, request, disk);
    yield;
  }

  /** Fetches the next segments of a stream. */
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
    if (engine.requests.changing(disk, { offsetHi: hi, offsetLo: lo, length })) return false;
    const request = engine.begin(SPECULATIVE, disk);
    request.setPlace(hi, lo, length);
    request.setPayload(engine.buffers.take(SEGMENT), HEADROOM);
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

  /** Steps after the reply to a segment's commands. */
  *#land(segment: Segment): Task {
    const { buffer, error } = segment.request;
    if (error !== 0) this.#remove((one) => one === segment);
    else if (buffer !== undefined && !segment.dropped) {
      buffer.retain();
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

  /** Whether there is room for a segment. Drops the oldest unused one if necessary. */
  #makeRoom(): boolean {
    if (this.#segments.length < MOST_SEGMENTS) return true;
    let oldest: Segment | undefined;
    for (const one of this.#segments) {
      if (one.buffer === undefined) continue;
      if (oldest === undefined || one.stream.usedAt < oldest.stream.usedAt) oldest = one;
    }
    // A stream that was used in this turn keeps its segments.
    if (oldest === undefined || oldest.stream.usedAt === this.#engine.now()) return false;
    this.#discard((one) => one === oldest);
    return true;
  }

  /** Removes segments. The streams of unused ones get a smaller window. */
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

  /** Answers from the middle of a segment: the header replaces the 16 bytes before the data during the write. */
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

  /** Answers with the end of one segment and the beginning of the next one. */
  #gather(request: FuseRequest, first: PooledBuffer, last: PooledBuffer, at: number): void {
    const buffer = this.#engine.buffers.take(request.length);
    const before = SEGMENT - at;
    libc.memcpy(buffer.address + HEADROOM, first.address + HEADROOM + at, before);
    libc.memcpy(buffer.address + HEADROOM + before, last.address + HEADROOM, request.length - before);
    this.#reply(request, buffer, 0);
    this.#engine.buffers.release(buffer);
  }
}

/** Number of the segment that contains the last of `length` bytes at (hi, lo). */
function lastSegment(hi: number, lo: number, length: number): number {
  return segmentOf(hi, lo) + Math.floor(((lo & (SEGMENT - 1)) + length - 1) / SEGMENT);
}
