// Keeps units in FILE and their records in FILE.index, so that a kill or a power failure at any moment leaves only
// records of right bytes.
//
// The order of writes (docs/internals/decisions/0032-cache-file.md has the proof):
//
// - A new unit: its bytes, sync of FILE, its record. A record is a promise about the image, not about FILE: each read
//   compares the bytes with the checksum, so a torn or lost write makes a unit absent, never wrong.
// - A unit whose bytes change on the export: an intent for its region, sync of FILE.index, then the change (`drop` makes
//   the caller wait). The intent goes when the region's page without the unit is on stable storage.
// - A unit that makes room: its record, sync of FILE.index, then the hole.
// - The first page of a region: a note that the region is used, sync of FILE.index, then the page. So no page from an
//   earlier time appears behind intents that did not know it.
//
// The kernel may read a complete FILE in place of a mount, also after the end of that mount. So the store has a
// lock to change FILE, which it gives up when FILE is complete and takes again before a change. While the kernel reads FILE,
// it stays as it is: nothing is added, and no hole is made.
//
// One loop writes all but the intents. Syncs are shared: one a second, or each 64 MiB.

import { EBUSY, EDQUOT, EIO, ENOSPC } from '../../constants/errno.js';
import { errnoReason, SystemError } from '../../linux/errno.js';
import type { SavedIndex, UnitFile } from '../contract/cache.js';
import { isZero, UNIT } from '../contract/units.js';
import {
  checksum,
  encodeHeader,
  encodePage,
  type Header,
  type Layout,
  layoutOf,
  PAGE,
  PART,
  placeFor,
  REGION_UNITS,
  STORED,
  slotOffset,
  sumsOf,
  ZERO,
} from './cache-index.js';
import { Intents } from './intents.js';
import { loadStore } from './load.js';
import { type Region, type Regions, regionOf, runsOf } from './regions.js';
import { errnoOf, type StoredFile } from './stored-file.js';

/** Maximum bytes of units that wait for the disk; further ones are left out. With half of them it is behind. */
const MAX_PENDING = 64 * 1024 * 1024;
/** Bytes of units between two syncs. */
const COMMIT_BYTES = 64 * 1024 * 1024;
/** Milliseconds between two syncs. */
const COMMIT_MS = 1000;
/** Milliseconds after the last drop until an intent may go, unless the caller says otherwise. */
const QUIET_MS = 10_000;
/** Milliseconds between two times that pages are written for their stamps only. */
const STAMP_MS = 60_000;
/** Units that are written at the same time; reads share the threads. */
const PARALLEL = 4;
/** Bytes of units that are taken at once. */
const BATCH = 16 * 1024 * 1024;
/** Bytes that are read at once where the kernel has them in memory: threads copy more of them at the same time. */
const MOST_AT_ONCE = 2 * PART;
/** How often a read tries again when the unit changes meanwhile. */
const READ_TRIES = 4;

/** Bytes on disk that no record explains, and that are not worth looking for. */
const SLACK = 16 * 1024 * 1024;

const FULL: readonly number[] = [ENOSPC, EDQUOT];

/** FILE and FILE.index. */
export interface StoreFiles {
  readonly data: StoredFile;
  readonly index: StoredFile;
}

export interface StoreOptions {
  /** How messages name the cache. */
  readonly name: string;
  /** Maximum bytes of units on disk; undefined: all of the image. */
  readonly limit: number | undefined;
  /** Milliseconds without a drop until a region's records count after a crash again (default: 10 s). */
  readonly quietMs?: number;
  /** The cache has failed: it is closed, and the line says why. Called once. */
  onFailure(line: string): void;
  /** Something that the user should know. */
  onLine(line: string): void;
}

interface Pending {
  readonly bytes: Uint8Array;
  /** The number of this order, for `flush`. */
  readonly order: number;
}

const seconds = (): number => Math.floor(Date.now() / 1000);

/** See the file's head. */
export class UnitStore implements UnitFile {
  readonly #files: StoreFiles;
  readonly #options: StoreOptions;
  readonly #layout: Layout;
  readonly #regions: Regions;
  readonly #intents: Intents;
  #header: Header;
  #index: SavedIndex | undefined;
  #trace: Uint32Array | undefined;
  /** Sections that are to be written. */
  readonly #sections = new Map<'index' | 'trace', Uint8Array>();

  readonly #pending = new Map<number, Pending>();
  #pendingBytes = 0;
  #leftOut = 0;
  /** Regions whose page on disk is older than their records. */
  readonly #dirty = new Set<Region>();
  /** Regions whose page is being written. */
  #committing: ReadonlySet<Region> = new Set();
  /** Regions that differ from their page in stamps only. */
  readonly #touched = new Set<Region>();
  #stampedAt = performance.now();

  /** Orders that were accepted, and those among them that are on stable storage. */
  #accepted = 0;
  #durable = 0;
  #flushes: { readonly order: number; readonly done: () => void }[] = [];
  #isFlushWanted = false;
  /** Bytes of units that were written since the last sync, and when the first of them was. */
  #unsynced = 0;
  #unsyncedSince = 0;

  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #state: 'open' | 'closing' | 'failed' | 'closed' = 'open';
  /** Whether nothing more is added: the disk is full. */
  #isFull = false;
  #canPunch = true;
  /** Whether FILE may be changed: we have the lock. */
  #isLocked = false;
  #saysDamage = true;
  /** Whether FILE has been emptied after a failure; the attempt that is under way. */
  #isInvalid = false;
  #emptying: Promise<void> | undefined;

  private constructor(
    files: StoreFiles,
    header: Header,
    options: StoreOptions,
    loaded: Awaited<ReturnType<typeof loadStore>>,
  ) {
    this.#files = files;
    this.#header = header;
    this.#options = options;
    this.#layout = layoutOf(header.size);
    this.#regions = loaded.regions;
    this.#intents = new Intents(files.index, this.#layout.intents, loaded.intents);
    this.#index = loaded.index;
    this.#trace = loaded.trace;
    for (const region of loaded.dirty) this.#dirty.add(region);
    this.#release();
    this.#isFlushWanted = this.#isOverLimit;
    if (this.#isFlushWanted) this.#wake();
    this.#arm();
  }

  /**
   * Opens the store of two files whose header is right.
   * @param onDisk bytes that FILE takes on disk
   * @throws the errors of the disk
   */
  static async open(
    files: StoreFiles,
    header: Header,
    onDisk: number,
    options: StoreOptions,
  ): Promise<UnitStore> {
    const loaded = await loadStore(files.index, header, options.limit !== undefined);
    const { regions } = loaded;
    // Bytes of units whose record a crash has prevented.
    if (onDisk > regions.used + regions.used / 8 + SLACK && files.data.lock())
      for (const [offset, length] of regions.absentRanges())
        if (!(await files.data.punch(offset, length))) break;
    return new UnitStore(files, header, options, loaded);
  }

  get count(): number {
    return this.#isUsable ? this.#regions.count : 0;
  }

  get nonce(): string | undefined {
    return this.#isUsable ? this.#header.nonce.toString(16).padStart(16, '0') : undefined;
  }

  /** Bytes of units on disk. */
  get used(): number {
    return this.#regions.used;
  }

  get isComplete(): boolean {
    return this.#isUsable && this.#hasAll && !this.#isLocked;
  }

  has(unit: number): boolean {
    return this.#isUsable && (this.#pending.has(unit) || this.#regions.has(unit));
  }

  units(): ReturnType<UnitFile['units']> {
    return this.#regions.stored();
  }

  async read(unit: number, from = 0, to = this.#regions.lengthOf(unit)): Promise<Uint8Array | undefined> {
    const { start, end } = this.#partsOf(unit, from, to);
    for (let i = 0; i < READ_TRIES && this.#isUsable; i++) {
      const now = this.readNow(unit, from, to);
      if (now !== undefined) return now;
      const region = this.#regions.find(regionOf(unit));
      if (region === undefined || !this.#regions.has(unit)) return undefined;
      const { version } = region;
      try {
        const bytes = await this.#files.data.read(unit * UNIT + start, end - start);
        // A unit may have gone, and may have come back with other bytes, in the meantime.
        if (!this.#regions.has(unit) || !this.#isUsable) return undefined;
        const isRight = bytes.length === end - start && this.#regions.isRight(unit, start, bytes);
        if (isRight) return this.#noteUse(unit, bytes.subarray(from - start, to - start));
        if (region.version === version) return this.#damaged(unit);
      } catch (error) {
        this.#fail(error);
      }
    }
    return undefined;
  }

  readNow(unit: number, from: number, to: number): Uint8Array | undefined {
    if (!this.#isUsable) return undefined;
    const waiting = this.#pending.get(unit);
    if (waiting !== undefined) return waiting.bytes.subarray(from, to);
    if (!this.#regions.has(unit)) return undefined;
    const { start, end } = this.#partsOf(unit, from, to);
    if (end - start > MOST_AT_ONCE) return undefined;
    const bytes = this.#files.data.readNow(unit * UNIT + start, end - start);
    // `read` finds out why bytes are wrong.
    if (bytes === undefined || !this.#regions.isRight(unit, start, bytes)) return undefined;
    const wanted = Buffer.allocUnsafeSlow(to - from);
    wanted.set(bytes.subarray(from - start, to - start));
    return this.#noteUse(unit, wanted);
  }

  touch(unit: number): boolean {
    if (this.#isUsable && this.#regions.has(unit)) this.#touch(unit);
    return this.has(unit);
  }

  /** The whole parts that contain a range of a unit: the checksums are theirs. */
  #partsOf(unit: number, from: number, to: number): { readonly start: number; readonly end: number } {
    const start = Math.floor(from / PART) * PART;
    return { start, end: Math.min(Math.ceil(to / PART) * PART, this.#regions.lengthOf(unit)) };
  }

  write(unit: number, bytes: Uint8Array): void {
    if (this.#state !== 'open' || this.#isFull || this.has(unit) || !this.#lock()) return;
    if (bytes.length !== this.#regions.lengthOf(unit))
      throw new RangeError(`unit ${unit} has ${this.#regions.lengthOf(unit)} bytes, not ${bytes.length}`);
    if (bytes.length > this.limit) return;
    if (this.#pendingBytes + bytes.length > MAX_PENDING) {
      this.#leftOut++;
      return;
    }
    this.#pending.set(unit, { bytes, order: ++this.#accepted });
    this.#pendingBytes += bytes.length;
    this.#wake();
  }

  get isBehind(): boolean {
    return this.#pendingBytes > MAX_PENDING / 2;
  }

  get leftOut(): number {
    return this.#leftOut;
  }

  get refusal(): string | undefined {
    if (!this.#isUsable) return 'the cache has failed';
    if (this.#isFull) return 'the disk of the cache is full';
    return this.#hasAll || this.#lock() ? undefined : 'programs still read the cache';
  }

  get limit(): number {
    return this.#options.limit ?? Number.POSITIVE_INFINITY;
  }

  get free(): number {
    return Math.max(0, this.limit - this.#regions.used - this.#pendingBytes);
  }

  get isWriting(): boolean {
    return this.#isUsable && (this.#pendingBytes > 0 || (this.#mayPunch && this.#regions.hasFreed));
  }

  drop(first: number, count: number): Promise<void> | undefined {
    if (count <= 0) return undefined;
    const end = Math.min(first + count, this.#regions.units);
    for (const unit of this.#pending.keys()) if (unit >= first && unit < end) this.#forgetPending(unit);
    const waits: Promise<void>[] = [];
    let needsInvalidation = false;
    for (let number = regionOf(first); number <= regionOf(end - 1); number++) {
      const region = this.#regions.find(number);
      if (region === undefined || !this.#removeIn(region, first, end)) continue;
      if (this.#state === 'failed' || this.#state === 'closed') needsInvalidation = true;
      else {
        const wait = this.#intents.mark(number);
        if (wait !== undefined) waits.push(wait);
      }
    }
    if (needsInvalidation) return this.#invalidate();
    if (waits.length === 0) return undefined;
    return Promise.all(waits).then(
      () => undefined,
      (error: unknown) => {
        this.#fail(error);
        return this.#invalidate();
      },
    );
  }

  get index(): SavedIndex | undefined {
    return this.#index;
  }

  saveIndex(index: SavedIndex): void {
    this.#index = index;
    this.#saveSection('index', index);
  }

  get trace(): Uint32Array | undefined {
    return this.#trace;
  }

  saveTrace(trace: Uint32Array): void {
    this.#trace = trace;
    const bytes = Buffer.alloc(trace.length * 4);
    for (const [i, unit] of trace.entries()) bytes.writeUInt32LE(unit, i * 4);
    this.#saveSection('trace', bytes);
  }

  async flush(): Promise<void> {
    if (!this.#isUsable) return;
    const order = this.#accepted;
    if (this.#durable >= order && !this.#needsCommit()) return;
    await new Promise<void>((done) => {
      this.#flushes.push({ order, done });
      this.#isFlushWanted = true;
      this.#wake();
    });
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    if (this.#state === 'open') {
      this.#state = 'closing';
      this.#isFlushWanted = true;
      this.#wake();
    }
    clearTimeout(this.#timer);
    while (this.#running !== undefined) await this.#running;
    await this.#intents.settle();
    await this.#emptying?.catch(() => undefined);
    // A clean end leaves no intents; without this sync it costs their regions.
    if (this.#state === 'closing') await this.#files.index.sync().catch(() => undefined);
    clearTimeout(this.#timer);
    this.#state = 'closed';
    await Promise.allSettled([this.#files.data.close(), this.#files.index.close()]);
  }

  get #isUsable(): boolean {
    return this.#state === 'open' || this.#state === 'closing';
  }

  get #hasAll(): boolean {
    return this.#regions.count === this.#regions.units;
  }

  get #mayPunch(): boolean {
    return this.#canPunch && this.#isLocked;
  }

  /** Takes the lock of FILE. False: the kernel reads FILE. */
  #lock(): boolean {
    this.#isLocked ||= this.#files.data.lock();
    return this.#isLocked;
  }

  /** Gives up the lock of a complete FILE. */
  #release(): void {
    if (!this.#hasAll) return;
    this.#files.data.unlock();
    this.#isLocked = false;
  }

  get #quietMs(): number {
    return this.#options.quietMs ?? QUIET_MS;
  }

  get #isOverLimit(): boolean {
    return this.#regions.used > this.limit;
  }

  #noteUse(unit: number, bytes: Uint8Array): Uint8Array {
    this.#touch(unit);
    return bytes;
  }

  #touch(unit: number): void {
    const region = this.#regions.touch(unit, seconds());
    if (region !== undefined) this.#touched.add(region);
  }

  #damaged(unit: number): undefined {
    const region = this.#regions.remove(unit);
    if (region !== undefined) this.#dirty.add(region);
    this.#arm();
    if (!this.#saysDamage) return;
    this.#saysDamage = false;
    this.#options.onLine(
      `the cache ${this.#options.name} is damaged at offset ${unit * UNIT}: those bytes are read again from the source`,
    );
  }

  #forgetPending(unit: number): void {
    this.#pendingBytes -= this.#pending.get(unit)?.bytes.length ?? 0;
    this.#pending.delete(unit);
  }

  /** Removes the units of a range in a region. @returns whether its page on disk may still have one */
  #removeIn(region: Region, first: number, end: number): boolean {
    const start = region.number * REGION_UNITS;
    let isGone = false;
    const last = Math.min(end, start + this.#regions.unitsIn(region.number));
    for (let unit = Math.max(first, start); unit < last; unit++)
      isGone = this.#regions.remove(unit) !== undefined || isGone;
    const isBehind = this.#dirty.has(region) || this.#committing.has(region);
    if (!isGone && !isBehind) return false;
    region.drops++;
    region.droppedAt = performance.now();
    if (isGone) this.#accepted++;
    if (isGone) this.#dirty.add(region);
    this.#arm();
    return region.isUsed;
  }

  #saveSection(name: 'index' | 'trace', bytes: Uint8Array): void {
    if (this.#state !== 'open') return;
    this.#sections.set(name, bytes);
    this.#accepted++;
    this.#arm();
  }

  /** Empties FILE, since its records can no longer follow the image. */
  async #invalidate(): Promise<void> {
    if (this.#isInvalid) return;
    this.#emptying ??= this.#empty().finally(() => {
      this.#emptying = undefined;
    });
    await this.#emptying;
  }

  async #empty(): Promise<void> {
    // A unit that is still being written would make FILE longer again.
    while (this.#running !== undefined) await this.#running;
    try {
      if (!this.#lock()) throw new SystemError(EBUSY, 'truncate');
      await this.#files.data.truncate(0);
      this.#isInvalid = true;
    } catch (cause) {
      const errno = errnoOf(cause);
      const message = `the cache ${this.#options.name} cannot be emptied: ${errnoReason(errno)}`;
      throw Object.assign(new Error(message, { cause }), { errno: EIO });
    }
  }

  #fail(error: unknown): void {
    if (!this.#isUsable) return;
    this.#state = 'failed';
    clearTimeout(this.#timer);
    this.#pending.clear();
    this.#pendingBytes = 0;
    for (const { done } of this.#flushes) done();
    this.#flushes = [];
    const why = errnoReason(errnoOf(error));
    this.#options.onFailure(`the cache ${this.#options.name} has failed: ${why}; going on without it`);
    // The failed sync may have been that of an intent.
    if (!this.#intents.isEmpty) void this.#invalidate().catch(() => undefined);
  }

  #needsCommit(): boolean {
    const hasFreed = this.#mayPunch && this.#regions.hasFreed;
    return this.#dirty.size > 0 || this.#sections.size > 0 || this.#unsynced > 0 || hasFreed;
  }

  #wake(): void {
    this.#running ??= this.#run();
  }

  /** Wakes the loop later, if there is something to do then. */
  #arm(): void {
    if (this.#timer !== undefined || this.#state !== 'open') return;
    const ms = this.#needsCommit() ? COMMIT_MS : this.#intents.isEmpty ? undefined : this.#quietMs;
    if (ms === undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#isFlushWanted = true;
      this.#wake();
    }, ms);
    this.#timer.unref();
  }

  async #run(): Promise<void> {
    // Further calls in this turn join the first batch.
    await Promise.resolve();
    try {
      if (!this.#hasAll) this.#lock();
      if (this.#isOverLimit) await this.#makeRoom(0);
      while (this.#isUsable && (this.#pending.size > 0 || this.#isFlushWanted)) {
        if (this.#pending.size > 0) await this.#storeBatch();
        const isDue = this.#unsynced > 0 && performance.now() - this.#unsyncedSince >= COMMIT_MS;
        if (isDue || this.#unsynced >= COMMIT_BYTES || (this.#isFlushWanted && this.#pending.size === 0))
          await this.#commit();
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#running = undefined;
    this.#arm();
  }

  /** Writes the oldest pending units. */
  async #storeBatch(): Promise<void> {
    const batch: [number, Pending][] = [];
    let bytes = 0;
    const most = Math.min(BATCH, (this.#options.limit ?? BATCH * 2) / 2);
    for (const [unit, pending] of this.#pending) {
      if (batch.length > 0 && bytes + pending.bytes.length > most) break;
      batch.push([unit, pending]);
      bytes += pending.bytes.length;
    }
    const hasRoom = await this.#makeRoom(bytes);
    for (let i = 0; i < batch.length; i += PARALLEL) {
      const some = batch.slice(i, i + PARALLEL);
      // All of them end, also after a failure: see #empty.
      const ends = await Promise.allSettled(
        some.map(([unit, pending]) => this.#storeUnit(unit, pending, hasRoom)),
      );
      const failed = ends.find((end) => end.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    }
  }

  async #storeUnit(unit: number, pending: Pending, hasRoom: boolean): Promise<void> {
    const { bytes } = pending;
    if (this.#pending.get(unit) !== pending) return;
    try {
      const isHole = await this.#storeZeros(unit, bytes);
      if (!isHole && (this.#isFull || (!hasRoom && !this.#regions.isFreed(unit)))) {
        if (this.#pending.get(unit) === pending) this.#forgetPending(unit);
        return;
      }
      if (!isHole) await this.#files.data.write(unit * UNIT, bytes);
      if (this.#unsynced === 0) this.#unsyncedSince = performance.now();
      this.#unsynced += bytes.length;
      if (this.#pending.get(unit) !== pending) {
        if (!isHole) this.#regions.leftOver(unit);
        return;
      }
      this.#forgetPending(unit);
      const flags = isHole ? STORED | ZERO : STORED;
      this.#dirty.add(this.#regions.store(unit, flags, sumsOf(bytes), seconds()));
    } catch (error) {
      if (!FULL.includes(errnoOf(error))) throw error;
      await this.#full(unit, errnoOf(error));
    }
  }

  /** Makes a hole for a unit of zeros. False: it is none, or the file system has no holes. */
  async #storeZeros(unit: number, bytes: Uint8Array): Promise<boolean> {
    if (!this.#canPunch || !isZero(bytes)) return false;
    this.#canPunch = await this.#files.data.punch(unit * UNIT, bytes.length);
    return this.#canPunch;
  }

  /** Stops adding. Frees the blocks of the unit that found no room, so that the records of the others have some. */
  async #full(unit: number, errno: number): Promise<void> {
    this.#forgetPending(unit);
    await this.#files.data.punch(unit * UNIT, this.#regions.lengthOf(unit)).catch(() => false);
    if (this.#isFull) return;
    this.#isFull = true;
    const why = errnoReason(errno);
    this.#options.onLine(
      `the disk of the cache ${this.#options.name} is full (${why}): nothing more is kept in it`,
    );
  }

  /** Makes room for bytes. False: there is not enough. */
  async #makeRoom(bytes: number): Promise<boolean> {
    const { limit } = this.#options;
    if (limit === undefined || this.#regions.used + bytes <= limit) return true;
    if (this.#canPunch && !this.#lock()) return false;
    if (this.#canPunch && this.#regions.hasFreed) await this.#commit();
    const excess = this.#regions.used + bytes - limit;
    if (excess > 0 && this.#canPunch) {
      for (const unit of this.#regions.leastRecent(excess)) {
        const region = this.#regions.remove(unit);
        if (region !== undefined) this.#dirty.add(region);
      }
      await this.#commit();
    }
    return this.#regions.used + bytes <= limit;
  }

  /** Puts all that was stored, dropped and saved on stable storage. */
  async #commit(): Promise<void> {
    const isFinal = this.#isFlushWanted && this.#state === 'closing';
    const [oldest] = this.#pending.values();
    const durable = oldest === undefined ? this.#accepted : oldest.order - 1;
    if (oldest === undefined) this.#isFlushWanted = false;
    this.#takeTouched(isFinal);
    const freed = this.#mayPunch ? this.#regions.freedUnits() : [];
    const hasData = this.#unsynced > 0;
    this.#unsynced = 0;
    const pages = [...this.#dirty].map((region) => ({ region, page: this.#pageOf(region) }));
    const fresh = pages.filter(({ region }) => !region.isUsed).map(({ region }) => region);
    this.#committing = new Set(this.#dirty);
    this.#dirty.clear();
    // From now on a drop must not rely on the page being absent.
    for (const region of fresh) region.isUsed = true;
    await Promise.all([hasData ? this.#files.data.sync() : undefined, this.#noteUsed(fresh)]);
    for (const { region, page } of pages)
      await this.#files.index.write(this.#layout.pages + region.number * PAGE, page);
    if (pages.length > 0) await this.#files.index.sync();
    this.#committing = new Set();
    await this.#punch(freed);
    await this.#writeSections();
    this.#clearIntents(isFinal);
    this.#release();
    this.#durable = durable;
    for (const { order, done } of this.#flushes) if (order <= durable) done();
    this.#flushes = this.#flushes.filter(({ order }) => order > durable);
  }

  #pageOf(region: Region): Uint8Array {
    return encodePage(this.#header.nonce, region.number, region.records);
  }

  /** Makes pages dirty that differ in their stamps, but seldom. */
  #takeTouched(isFinal: boolean): void {
    if (!isFinal && performance.now() - this.#stampedAt < STAMP_MS) return;
    this.#stampedAt = performance.now();
    for (const region of this.#touched) this.#dirty.add(region);
    this.#touched.clear();
  }

  async #noteUsed(regions: readonly Region[]): Promise<void> {
    if (regions.length === 0) return;
    const numbers = regions.map(({ number }) => number).sort((a, b) => a - b);
    for (const [first, count] of runsOf(numbers))
      await this.#files.index.write(this.#layout.used + first, new Uint8Array(count).fill(1));
    await this.#files.index.sync();
  }

  /** Frees the bytes of units whose absence is on stable storage. */
  async #punch(units: readonly number[]): Promise<void> {
    for (const [first, count] of runsOf(units)) {
      const length = Math.min((first + count) * UNIT, this.#header.size) - first * UNIT;
      this.#canPunch &&= await this.#files.data.punch(first * UNIT, length);
      if (!this.#canPunch) return;
      for (let unit = first; unit < first + count; unit++) this.#regions.freed(unit);
    }
  }

  async #writeSections(): Promise<void> {
    for (const [name, bytes] of this.#sections) {
      this.#sections.delete(name);
      const taken = [this.#header.index, this.#header.trace];
      const offset = placeFor(bytes.length, this.#layout.sections, taken);
      await this.#files.index.write(offset, bytes);
      await this.#files.index.sync();
      const section = { offset, length: bytes.length, sum: checksum(bytes) };
      const header = { ...this.#header, sequence: this.#header.sequence + 1, [name]: section };
      await this.#files.index.write(slotOffset(header), encodeHeader(header));
      await this.#files.index.sync();
      this.#header = header;
    }
  }

  /** Clears the intents of regions whose page is as new as their records. */
  #clearIntents(isFinal: boolean): void {
    const now = performance.now();
    for (const number of [...this.#intents.durable()]) {
      const region = this.#regions.find(number);
      const isQuiet = isFinal || now - (region?.droppedAt ?? 0) >= this.#quietMs;
      if (isQuiet && (region === undefined || !this.#dirty.has(region))) this.#intents.clear(number);
    }
  }
}
