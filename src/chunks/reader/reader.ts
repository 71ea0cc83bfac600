// Reads an image by its units: kept units are answered at once, others are decoded or fetched once for all readers.

import type { Input } from '../contract/coding.js';
import type { DiskBytes } from '../contract/disk.js';
import { lengthOfUnit, UNIT } from '../contract/units.js';
import type { ChunkMap } from '../schedule/chunk-map.js';
import { Streams, unitsAhead } from '../schedule/streams.js';
import { AHEAD, BACKGROUND, DEMAND, type Priority, type Task, Tasks } from '../schedule/tasks.js';
import { ReadError, textOf } from './errors.js';
import { Failures } from './failures.js';
import { hasOtherBytes } from './same-disk.js';
import type { SourceEvents, UnitSource } from './source.js';
import type { Store } from './store.js';

/** Compared units of each kind and place when a server has come back. */
const MOST_COMPARED = 32;

const OTHER_DISK = 'the server has another disk now';
const STAYS = 'the cache file has all of the former one, and is served without it: mount it again';

interface Waiter {
  readonly promise: Promise<Uint8Array>;
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

function makeWaiter(): Waiter {
  let resolve: Waiter['resolve'] = () => undefined;
  let reject: Waiter['reject'] = () => undefined;
  const promise = new Promise<Uint8Array>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // Reading ahead, nobody waits.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

/** A pass over the whole file, which makes all units in order. */
export interface RunningPass {
  /** The next unit that it will make. */
  readonly position: number;
  /** Somebody waits for a unit that it will make. */
  hurry(): void;
}

export interface ReaderOptions {
  readonly map: ChunkMap;
  readonly store: Store;
  /** Makes the source, given where it reports to. */
  readonly source: (events: SourceEvents) => UnitSource;
  /** The most units to read ahead. */
  readonly mostAhead: number;
  /** A line for the user. */
  readonly onLine: (line: string) => void;
}

export class Reader {
  readonly map: ChunkMap;
  /** Units that were there at their request, units that were not, and fetched bytes of the file. */
  readonly counts = { hits: 0, misses: 0, fetched: 0 };
  /** Counts the changes that have begun, and the times that all was forgotten. */
  changes = 0;
  /** Counts the fetches that failed because the server below was lost. */
  losses = 0;
  /** Called when units have come, or come no more. */
  readonly onSettled = new Set<() => void>();
  /** Called for each unit that somebody asks for. */
  onDemand: ((unit: number) => void) | undefined;
  /** The pass that runs; it makes the units behind its position. */
  pass: RunningPass | undefined;
  readonly #options: ReaderOptions;
  readonly #store: Store;
  readonly #tasks: Tasks;
  readonly #waiters = new Map<number, Waiter>();
  readonly #failures = new Failures();
  readonly #streams = new Streams();
  /** Whether the server below has another disk, and the cache file is served without it. */
  #hasLeft = false;
  /** Whether the cache file, which others may read, has units of a former disk and cannot be emptied. Nothing is read then. */
  #mustStay = false;
  /** The first byte of the image from which on units may be of other places, and why. */
  #misplaced: { readonly from: number; readonly message: string } | undefined;

  /** Whether nothing of the server below is of the disk that is served. */
  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  constructor(options: ReaderOptions) {
    this.map = options.map;
    this.#options = options;
    this.#store = options.store;
    const source = options.source({
      made: (task, bytes) => {
        this.#take(task.position, bytes);
        this.#tasks.made(task);
      },
      damaged: (task, message, partial) => {
        this.fail(task.position, task.chunk.end, message, partial);
        this.#tasks.remove(task);
      },
      misplaced: (task, message) => {
        this.#forget(task.chunk.first);
        // A reader in order must come to an error before pages that the kernel has of later units.
        this.fail(task.position, this.map.units, message, undefined);
        const from = task.position * UNIT;
        if (from < (this.#misplaced?.from ?? Number.POSITIVE_INFINITY)) this.#misplaced = { from, message };
        this.#tasks.remove(task);
      },
      failed: (task, error) => this.#giveUp(task, error),
      fetched: (bytes) => {
        this.counts.fetched += bytes;
      },
    });
    this.#tasks = new Tasks(source, source.maxOpen);
  }

  /**
   * The bytes of a range within the image, in parts: at once if they lie in one unit, and in memory.
   * @throws ReadError, as a rejection; other errors at once, too
   */
  read(offset: number, length: number): DiskBytes | Promise<DiskBytes> {
    if (this.#mustStay) return Promise.reject(new ReadError(OTHER_DISK));
    return this.#readNow(offset, length) ?? this.#readParts(offset, length);
  }

  /** Somebody has read the kept units of a range without us: they count as asked for. */
  use(offset: number, length: number): void {
    for (let unit = Math.floor(offset / UNIT); unit * UNIT < offset + length; unit++) {
      if (!this.#store.use(unit)) continue;
      this.onDemand?.(unit);
      this.#readAhead(unit);
      this.counts.hits += 1;
    }
  }

  /** The bytes of a range of one unit, if they are in memory and nothing else is known of it. */
  #readNow(offset: number, length: number): DiskBytes | undefined {
    const unit = Math.floor(offset / UNIT);
    const from = offset - unit * UNIT;
    if (from + length > UNIT || this.#failures.of(unit) !== undefined) return undefined;
    if (this.#misplaced !== undefined && offset + length > this.#misplaced.from) return undefined;
    const bytes = this.#store.now(unit, from, from + length);
    if (bytes === undefined) return undefined;
    this.onDemand?.(unit);
    this.#readAhead(unit);
    this.counts.hits += 1;
    return [bytes];
  }

  async #readParts(offset: number, length: number): Promise<DiskBytes> {
    const parts: Promise<Uint8Array>[] = [];
    for (let at = offset; at < offset + length; ) {
      const unit = Math.floor(at / UNIT);
      const end = Math.min(offset + length, (unit + 1) * UNIT);
      parts.push(this.#partOf(unit, at - unit * UNIT, end - unit * UNIT));
      at = end;
    }
    const bytes = await Promise.all(parts);
    this.#checkPlaces(offset, length);
    return bytes;
  }

  /** Whether all units of a range are where they belong: one of them may have come before another was found misplaced. */
  #checkPlaces(offset: number, length: number): void {
    const misplaced = this.#misplaced;
    if (misplaced !== undefined && offset + length > misplaced.from) throw new ReadError(misplaced.message);
  }

  /** Whether a unit is kept or cannot be decoded. */
  isSettled(unit: number): boolean {
    return this.#store.has(unit) || this.#failures.of(unit) !== undefined;
  }

  /** Whether a unit is where it is to stay, or cannot be decoded. */
  isSaved(unit: number): boolean {
    return this.#store.isSaved(unit) || this.#failures.of(unit) !== undefined;
  }

  /** The unit behind those that cannot be decoded for the same reason as this one; undefined: it can, as far as known. */
  failedEnd(unit: number): number | undefined {
    return this.#failures.of(unit)?.end;
  }

  /** Bytes that cannot be decoded. */
  get failedBytes(): number {
    return this.#failures.bytesOf(this.map.size);
  }

  /** Has a unit decoded that nobody waits for, or only saved, where it is in memory. */
  fetch(unit: number, priority: Priority): void {
    if (priority === BACKGROUND && !this.isSaved(unit) && this.#store.save(unit)) return;
    if (this.#hasLeft || this.isSettled(unit) || this.#store.isChanging(unit) || this.#isBehindPass(unit))
      return;
    this.#tasks.want(unit, this.map.chunkOf(unit), priority);
  }

  /** Whether a decoder or the pass will make a unit. */
  isOnItsWay(unit: number): boolean {
    return this.#isBehindPass(unit) || this.#tasks.taskFor(unit) !== undefined;
  }

  /** Whether units are being decoded because of this priority. */
  isBusy(priority: Priority): boolean {
    for (const task of this.#tasks.all) {
      if (task.priority === priority && task.position < task.goal) return true;
    }
    return false;
  }

  /** Ends the tasks of a priority. */
  stop(priority: Priority): void {
    this.#tasks.removeAll(priority);
  }

  /**
   * Takes a unit of the pass. One that the image has not, or not with this length, contradicts the size that the disk
   * claims: nobody gets it, and the end of the pass fails the reads that wait for it.
   */
  deliver(unit: number, bytes: Uint8Array): void {
    if (bytes.length === lengthOfUnit(unit, this.map.size)) this.#take(unit, bytes);
  }

  /** Keeps no unit from one on: the next mount finds again that they are misplaced. */
  #forget(first: number): void {
    this.#store.forget(first, this.map.units)?.catch((error: unknown) => this.#options.onLine(textOf(error)));
  }

  /** Takes a unit that was made. */
  #take(unit: number, bytes: Uint8Array): void {
    const waiter = this.#waiters.get(unit);
    const failure = this.#failures.of(unit);
    if (failure === undefined) this.#store.put(unit, bytes, waiter !== undefined);
    this.#waiters.delete(unit);
    // Another task may make units that are misplaced.
    if (failure !== undefined) waiter?.reject(new ReadError(failure.message));
    else waiter?.resolve(bytes);
    this.#settled();
  }

  /** Notes that units cannot be decoded, for ever. */
  fail(first: number, end: number, message: string, partial: Uint8Array | undefined): void {
    // A decoder that makes the units before them again comes to the same damage.
    if ((this.#failures.of(first)?.end ?? 0) < end) {
      this.#failures.add({ first, end, partial, message });
      const from = first * UNIT + (partial?.length ?? 0);
      const to = end >= this.map.units ? '' : ` to ${end * UNIT}`;
      this.#options.onLine(`${message}: reads of the image from byte ${from}${to} fail`);
    }
    const error = new ReadError(message);
    for (const [unit, waiter] of [...this.#waiters]) {
      if (unit < first || unit >= end) continue;
      this.#waiters.delete(unit);
      waiter.reject(error);
    }
    this.#settled();
  }

  /**
   * Units begin to change: the reader forgets all it knows of them, and reads go past the cache until `endChange`.
   * Reads that wait for them go past the cache, too.
   * @returns undefined: the change may be sent; otherwise when it resolves. It rejects when it must not be sent
   */
  beginChange(first: number, end: number): Promise<void> | undefined {
    this.changes += 1;
    const forgotten = this.#store.beginChange(first, end);
    for (let unit = first; unit < end; unit++) this.#abandon(unit);
    return forgotten;
  }

  /** Keeps nothing of a unit that is on its way. Those who wait for it go past the cache. */
  #abandon(unit: number): void {
    const task = this.#tasks.taskFor(unit);
    if (task !== undefined) this.#tasks.remove(task);
    this.#waiters.get(unit)?.reject(new ChangedError());
    this.#waiters.delete(unit);
  }

  /** The bytes of a range of one unit where they are kept, without fetching them; otherwise undefined. */
  async kept(offset: number, length: number): Promise<Uint8Array | undefined> {
    const unit = Math.floor(offset / UNIT);
    const start = offset - unit * UNIT;
    if (start + length > UNIT || this.#store.isChanging(unit)) return undefined;
    const end = start + length;
    return this.#store.recent(unit)?.subarray(start, end) ?? this.#store.saved(unit, start, end);
  }

  /** Looks at the disk of a server that has come back: it may be another one than the kept units are of. */
  async compare(disk: Pick<Input, 'read'>, isWritable: boolean): Promise<void> {
    const found = await Promise.all(
      this.#store.places.map((place) => hasOtherBytes(place, disk, MOST_COMPARED)),
    );
    if (found.includes(true)) await this.leaveDisk(isWritable);
    else this.#hasLeft = this.#mustStay;
  }

  /**
   * The server below has another disk than the kept units are of, which go. Fetches that are under way bring bytes of the
   * new one. A complete cache file of a disk that is only read stays, since the kernel may read it without us
   * (passthrough): then nothing comes from the server any more.
   */
  async leaveDisk(isWritable: boolean): Promise<void> {
    const { onLine } = this.#options;
    if (!isWritable && this.#store.isComplete) {
      if (!this.#hasLeft) onLine(`${OTHER_DISK}; ${STAYS}`);
      this.#hasLeft = true;
      return;
    }
    this.changes += 1;
    try {
      await this.#store.forget(0, this.map.units);
    } catch (error) {
      onLine(textOf(error));
      // Others may read the former disk in the cache file, beside us: nobody must get bytes of both.
      this.#mustStay = !isWritable;
      this.#hasLeft = this.#mustStay;
      if (this.#mustStay) onLine(`${OTHER_DISK}: mount it again`);
      // Of a writable disk nothing is read from the file any more, and the next mount compares what the file still has.
      return;
    }
    onLine('the server has other bytes than the cache, which is emptied');
  }

  /** A change has been answered. @param isDurable whether the server below cannot lose it */
  endChange(first: number, end: number, isDurable: boolean): void {
    this.#store.endChange(first, end, isDurable);
  }

  /** Others may have changed units, and the server below may lose that until a FLUSH. */
  distrustAll(): void {
    this.#store.distrustAll();
  }

  /** Has `flush` make durable what the server below has answered. */
  async flush(flush: () => Promise<void>): Promise<void> {
    const { mark } = this.#store;
    await flush();
    this.#store.flushed(mark);
  }

  /** The server below was lost: it may have lost bytes that it has shown since the last FLUSH. */
  lost(): void {
    const mayDiffer = this.#store.lost();
    const tasks = [...this.#tasks.all].map(({ position }) => position);
    for (const unit of [...tasks, ...this.#waiters.keys()]) if (mayDiffer(unit)) this.#abandon(unit);
  }

  isChanging(unit: number): boolean {
    return this.#store.isChanging(unit);
  }

  /** Has decoders make the units that waited for a pass which has ended. */
  resume(): void {
    for (const unit of this.#waiters.keys()) this.#tasks.want(unit, this.map.chunkOf(unit), DEMAND);
  }

  #settled(): void {
    for (const listener of this.onSettled) listener();
  }

  #isBehindPass(unit: number): boolean {
    return this.pass !== undefined && unit >= this.pass.position;
  }

  async #partOf(unit: number, from: number, to: number): Promise<Uint8Array> {
    const known = this.#failedPart(unit, from, to);
    if (known !== undefined) return known;
    try {
      return await this.#bytesOf(unit, from, to);
    } catch (error) {
      // The damage that ended the wait may lie behind these bytes.
      const part = this.#failedPart(unit, from, to);
      if (part !== undefined) return part;
      throw error;
    }
  }

  /** The bytes before the damage of a unit; undefined: no damage is known. @throws ReadError */
  #failedPart(unit: number, from: number, to: number): Uint8Array | undefined {
    const failure = this.#failures.of(unit);
    if (failure === undefined) return undefined;
    const { first, partial, message } = failure;
    if (unit !== first || partial === undefined || to > partial.length) throw new ReadError(message);
    return partial.subarray(from, to);
  }

  async #bytesOf(unit: number, from: number, to: number): Promise<Uint8Array> {
    const recent = this.#store.recent(unit);
    this.onDemand?.(unit);
    this.#readAhead(unit);
    if (recent !== undefined) {
      this.counts.hits += 1;
      return recent.subarray(from, to);
    }
    const saved = await this.#store.saved(unit, from, to);
    if (saved !== undefined) {
      this.counts.hits += 1;
      return saved;
    }
    // It may have come meanwhile.
    const now = this.#store.recent(unit);
    if (now !== undefined) return now.subarray(from, to);
    this.counts.misses += 1;
    return (await this.#wait(unit)).subarray(from, to);
  }

  #wait(unit: number): Promise<Uint8Array> {
    // A fetch that began now could bring bytes of before the change, and be kept after it.
    if (this.#store.isChanging(unit)) throw new ChangedError();
    if (this.#hasLeft) throw new ReadError(OTHER_DISK);
    let waiter = this.#waiters.get(unit);
    if (waiter === undefined) {
      waiter = makeWaiter();
      this.#waiters.set(unit, waiter);
    }
    if (this.#isBehindPass(unit)) this.pass?.hurry();
    else this.#tasks.want(unit, this.map.chunkOf(unit), DEMAND);
    return waiter.promise;
  }

  #readAhead(unit: number): void {
    const count = unitsAhead(this.#streams.note(unit), this.#options.mostAhead);
    const last = Math.min(unit + count, this.map.units - 1);
    for (let next = unit + 1; next <= last; ) {
      if (this.isSettled(next)) {
        next += 1;
        continue;
      }
      const { end } = this.map.chunkOf(next);
      this.fetch(Math.min(end - 1, last), AHEAD);
      next = end;
    }
  }

  #giveUp(task: Task, error: unknown): void {
    const reason = new ReadError(textOf(error), { cause: error });
    const { position, goal } = task;
    if (reason.isLost) this.losses += 1;
    this.#tasks.remove(task);
    for (let unit = position; unit < goal; unit++) {
      this.#waiters.get(unit)?.reject(reason);
      this.#waiters.delete(unit);
    }
  }
}

/** The unit changes: read it past the cache. */
export class ChangedError extends ReadError {
  override name = 'ChangedError';
  constructor() {
    super('the unit is changing');
  }
}
