// READs that the worker answers from the cache file of a disk's chunk server, without asking it.
//
// Owned by the worker; at most one disk has a cache file. Small READs take less time so: docs/internals/decisions/
// 0037-reads-of-the-cache-file.md has the figures. The chunk server learns of them a moment later (NBD_CMD_CACHE), so
// that it knows the order of use, and what a program will read at the next start.
//
// Invariant: the file belongs to the server of all connections of the disk. So a connection that is lost or attached ends
// its use, and the main thread offers it again.

import { OUT_HEADER } from '../../fuse/layout.js';
import { NBD_CMD_CACHE } from '../../nbd/constants.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, SPECULATIVE, type Task } from '../flight/fuse-request.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { highHalf, lowHalf, toDouble } from '../memory/u64.js';
import { COUNTER } from '../stats/counters.js';
import type { Engine } from './engine.js';

/** Milliseconds from a READ until the chunk server knows of it: reads that follow each other go first. */
const TELL_AFTER = 100;
/** Milliseconds in which the chunk server hears once of the same bytes. */
const FORGET_AFTER = 10_000;
/** Maximum commands of a message to the chunk server: of more reads it gets a sample. */
const MOST_TOLD = 128;

/** The cache file of a disk. */
export interface KeptParts {
  /** Maximum bytes that are read and checked for one READ. */
  readonly most: number;
  /** The number of the bytes around `offset` whose use is one fact for the chunk server. */
  unitOf(offset: number): number;
  /**
   * Reads at most `most` bytes around those of the disk from `offset` on to byte `start` of `buffer`.
   * @returns where in `buffer` the byte at `offset` is; -1: they are not there
   */
  read(offset: number, length: number, buffer: PooledBuffer, start: number): number;
  close(): void;
}

/** See the file's head. */
export class KeptFile {
  readonly #engine: Engine;
  #disk: Disk | undefined;
  #parts: KeptParts | undefined;
  /** Places of reads that the chunk server does not know of yet. */
  #untold: number[] = [];
  #untoldSince = 0;
  /** The units of whose use the chunk server knows, or will know soon, since `#toldSince`. */
  readonly #told = new Set<number>();
  #toldSince = 0;
  #isTelling = false;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Uses the cache file of a disk, until `end`. */
  use(disk: Disk, parts: KeptParts): void {
    this.end();
    this.#disk = disk;
    this.#parts = parts;
  }

  /** Uses the cache file no more. */
  end(): void {
    this.#parts?.close();
    this.#parts = undefined;
    this.#disk = undefined;
    this.#untold = [];
  }

  /** Answers a READ that is pending once. False: the caller must ask the server. */
  read(request: FuseRequest, disk: Disk): boolean {
    const parts = this.#parts;
    // A cache must not answer for a server that is lost.
    if (parts === undefined || disk !== this.#disk || disk.waiting || request.length > parts.most)
      return false;
    const offset = toDouble(request.offsetHi, request.offsetLo);
    const buffer = this.#engine.buffers.take(parts.most);
    const at = parts.read(offset, request.length, buffer, HEADROOM);
    if (at >= 0) this.#answer(request, disk, buffer, at);
    this.#engine.buffers.release(buffer);
    if (at >= 0) this.#note(offset, parts.unitOf(offset));
    return at >= 0;
  }

  /** Tells the chunk server of the reads, when it is time. */
  look(now: number): void {
    if (this.#untold.length > 0 && now - this.#untoldSince >= TELL_AFTER && !this.#isTelling) this.tell();
  }

  /** Milliseconds until the next look; -1: none is needed. */
  get patience(): number {
    if (this.#untold.length === 0 || this.#isTelling || this.#disk?.waiting !== false) return -1;
    return Math.max(0, this.#untoldSince + TELL_AFTER - this.#engine.now());
  }

  /** Tells the chunk server of all reads since the last time. */
  tell(): void {
    const disk = this.#disk;
    if (disk === undefined || disk.waiting || this.#untold.length === 0) return;
    const request = this.#engine.begin(SPECULATIVE, disk);
    this.#engine.run(request, this.#tell(request, disk));
  }

  /** Steps of a message. The chunk server answers at once; while it does not, there is one message only. */
  *#tell(request: FuseRequest, disk: Disk): Task {
    const offsets = this.#untold;
    this.#untold = [];
    this.#isTelling = true;
    for (const offset of offsets) {
      const command = this.#engine.command(request, disk, NBD_CMD_CACHE);
      const start = BigInt(offset - (offset % disk.minimum));
      const [hi, lo] = [highHalf(start), lowHalf(start)];
      command.setPlace(hi, lo, disk.clip(hi, lo, disk.minimum));
      this.#engine.submit(command, disk);
    }
    yield;
    this.#isTelling = false;
  }

  #answer(request: FuseRequest, disk: Disk, { view, address, bytes }: PooledBuffer, at: number): void {
    if (disk.identity.wanted) disk.identity.saw(request, bytes, at, false);
    const header = at - OUT_HEADER;
    this.#engine.device.reply(view, header, address + header, OUT_HEADER + request.length, request);
    request.markAnswered();
    disk.counters[COUNTER.cacheFileReads]++;
  }

  #note(offset: number, unit: number): void {
    const now = this.#engine.now();
    if (now - this.#toldSince >= FORGET_AFTER) {
      this.#told.clear();
      this.#toldSince = now;
    }
    if (this.#untold.length >= MOST_TOLD || this.#told.has(unit)) return;
    this.#told.add(unit);
    if (this.#untold.length === 0) this.#untoldSince = now;
    this.#untold.push(offset);
  }
}
