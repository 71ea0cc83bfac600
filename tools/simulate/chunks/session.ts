// One life of the chunk server: it opens an image, answers clients, and ends in order or at once.

import { adoptFiles, CacheFileError } from '../../../src/chunks/cache/cache-file.js';
import { decodeHeader, HEADER } from '../../../src/chunks/cache/cache-index.js';
import { MemoryCache } from '../../../src/chunks/cache/memory.js';
import { isSameImage } from '../../../src/chunks/cache/saved-identity.js';
import type { Identity, UnitFile } from '../../../src/chunks/contract/cache.js';
import type { ServedDisk } from '../../../src/chunks/contract/disk.js';
import { readOnlyDisk } from '../../../src/chunks/disk/read-only-disk.js';
import { flushFirst, writableDisk } from '../../../src/chunks/disk/writable-disk.js';
import { type Image, openImage } from '../../../src/chunks/reader/image.js';
import { hasOtherBytes } from '../../../src/chunks/reader/same-disk.js';
import { Work } from '../../../src/chunks/reader/work.js';
import { DEMAND } from '../../../src/chunks/schedule/tasks.js';
import type { Checker } from './checker.js';
import { Clients } from './clients.js';
import { UNITS } from './content.js';
import type { CacheDisk } from './disk.js';
import { SimulatedPool } from './pool.js';
import type { Profile } from './profile.js';
import type { Scheduler } from './scheduler.js';
import type { Source } from './source.js';
import { Violation } from './violation.js';

/** The world of a session. */
export interface SessionOptions {
  readonly profile: Profile;
  readonly scheduler: Scheduler;
  readonly disk: CacheDisk;
  readonly source: Source;
  readonly checker: Checker;
  readonly coding: 'plain' | 'zstd' | 'gzip' | 'xz';
  readonly identity: Identity;
  /** The server below has another disk from now on. */
  readonly replaceDisk: () => void;
}

/** Tasks beside those of the decoders: see CodedSource; and the pass. */
const MORE_TASKS = 3;

/** See the file's head. */
export class Session {
  readonly #options: SessionOptions;
  readonly #memory: MemoryCache;
  #pool: SimulatedPool | undefined;
  #image: Image | undefined;
  #work: Work | undefined;
  clients: Clients | undefined;
  /** Whether all that is to be prefetched has been. */
  #isFetched = false;
  /** How many reads of each unit are in progress. */
  readonly #reading = new Map<number, number>();
  /** Whether the cache file has failed, or is full. */
  #isCacheBad = false;
  #violation: unknown;
  /** The step in which the source has come back. */
  #backSince = Number.NEGATIVE_INFINITY;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#memory = new MemoryCache(options.profile.memory);
  }

  /** Opens the image. False: the file is damaged, or the source has failed. */
  async open(): Promise<boolean> {
    const { profile, scheduler, source } = this.#options;
    const failures = source.failures + source.losses;
    try {
      this.#image = await scheduler.settled(this.#openImage(), 'the image is never open');
    } catch (error) {
      if (error instanceof Violation || error instanceof CacheFileError) throw error;
      if (profile.damage !== undefined || failures !== source.failures + source.losses) return false;
      throw new Violation('unexpected error', `the image cannot be opened: ${String(error)}`);
    }
    const image = this.#image;
    const connection = await scheduler.settled(this.#serve(image).connect(), 'the disk is never there');
    if (this.#isServer && image.file !== undefined)
      await scheduler.settled(flushFirst(source, image.reader), 'the first FLUSH never ends');
    const work = Work.start({
      image,
      memory: this.#memory,
      prefetch: profile.prefetch,
      trace: undefined,
      onChange: () => {
        this.#isFetched = true;
      },
      onLine: (line) => scheduler.note(line),
    });
    this.#work = await scheduler.settled(work, 'the work never starts');
    const { checker } = this.#options;
    this.clients = new Clients({
      scheduler,
      connection,
      source,
      checker,
      size: image.reader.map.size,
      isDamaged: profile.damage !== undefined,
      mayRefuse: () => this.#options.disk.isBad,
      mayLack: () => this.#options.disk.isBad && profile.faults.otherDisk,
      onViolation: (violation) => {
        this.#violation ??= violation;
      },
    });
    return true;
  }

  /** Clients ask, and the world goes on. */
  async run(): Promise<void> {
    const { profile, scheduler } = this.#options;
    const { random } = scheduler;
    for (let step = 0; step < profile.steps; step++) {
      const { clients } = this;
      if (clients !== undefined && clients.waiting < profile.depth && random.chance(0.3)) clients.ask();
      if (random.chance(0.02)) this.#disturb();
      await scheduler.step();
      this.check();
    }
  }

  /** Nothing fails any more, and all requests must be answered; prefetching must end. */
  async finish(): Promise<void> {
    const { profile, scheduler, source, disk } = this.#options;
    this.#comeBack(false);
    source.mayFail = false;
    const { clients } = this;
    const isAnswered = (): boolean => {
      this.check();
      return clients === undefined || clients.waiting === 0;
    };
    await scheduler.until(isAnswered, 'no answer', `${clients?.waiting} requests are never answered`);
    const image = this.#image;
    if (profile.prefetch === undefined || image === undefined) return;
    await scheduler.until(() => this.#isFetched, 'no end', 'prefetching never ends');
    await scheduler.settled(image.file?.flush() ?? Promise.resolve(), 'the cache is never flushed');
    const isWhole =
      profile.cache !== undefined &&
      profile.cache.limit === undefined &&
      profile.damage === undefined &&
      !this.#isServer;
    if (isWhole && !this.#isCacheBad && !disk.isBad && image.file?.isComplete === false)
      throw new Violation('no end', 'prefetching has ended, and the cache file is not complete');
  }

  /** Ends in order. */
  async end(): Promise<void> {
    const { scheduler } = this.#options;
    const end = async (): Promise<void> => {
      await this.#work?.stop();
      await this.#image?.close();
    };
    await scheduler.settled(end(), 'the chunk server never ends');
    scheduler.clear();
  }

  /** Ends at once. */
  abandon(): void {
    this.#pool?.end();
    this.#options.scheduler.clear();
    this.#options.source.settleArrivals();
  }

  /** Checks the limits that hold at any time. @throws Violation */
  check(): void {
    if (this.#violation !== undefined) throw this.#violation;
    const { used, limit } = this.#memory;
    if (used > limit)
      throw new Violation('memory', `the memory has ${used} bytes of units, more than ${limit}`);
    const most = this.#options.profile.threads + MORE_TASKS;
    if ((this.#pool?.open ?? 0) > most)
      throw new Violation('memory', `${this.#pool?.open} decoders are open`);
  }

  /** A read of a unit of the source begins. @returns a function for its end */
  noteSourceRead(unit: number): () => void {
    this.#checkOrder(unit);
    const reading = this.#reading;
    reading.set(unit, (reading.get(unit) ?? 0) + 1);
    return () => void reading.set(unit, (reading.get(unit) ?? 1) - 1);
  }

  /** A unit that no reader has asked for is not fetched while readers wait for units of which none is fetched. */
  #checkOrder(unit: number): void {
    const { clients } = this;
    const { coding, source, scheduler } = this.#options;
    if (coding !== 'plain' || clients === undefined || !source.isAlive) return;
    // Requests of before are still failing one after the other.
    if (scheduler.steps <= this.#backSince + 1) return;
    // A read of several units that has failed, or that goes past the cache, leaves the others wanted.
    if (clients.asked.has(unit) || this.#image?.reader.isBusy(DEMAND) !== true) return;
    for (const wanted of clients.asked) if ((this.#reading.get(wanted) ?? 0) > 0) return;
    this.#violation ??= new Violation(
      'prefetch first',
      `unit ${unit} is fetched before those that readers wait for`,
    );
  }

  #openImage(): Promise<Image> {
    const { coding, source, scheduler, profile } = this.#options;
    return openImage({
      input: source,
      coding,
      memory: this.#memory,
      openFile: profile.cache === undefined ? undefined : (size) => this.#openFile(size),
      startPool: (onMessage) => {
        this.#pool = new SimulatedPool(profile.threads, scheduler, onMessage);
        return this.#pool;
      },
      onLine: (line) => scheduler.note(line),
      onProgress: () => undefined,
    });
  }

  /** As main.ts opens the cache file. */
  async #openFile(size: number | undefined): Promise<UnitFile | undefined> {
    const { disk, identity, profile, scheduler } = this.#options;
    const found = decodeHeader(disk.head(HEADER));
    const isKnown = found.kind === 'header' && isSameImage(found.header.identity, identity);
    const bytes = size ?? (isKnown ? found.header.size : undefined);
    if (bytes === undefined) return undefined;
    const note = (line: string): void => {
      this.#isCacheBad ||= !line.includes('another image');
      scheduler.note(line);
    };
    try {
      const file = await adoptFiles(
        { data: disk.file('data'), index: disk.file('index') },
        { size: disk.dataSize, onDisk: 0 },
        {
          path: 'FILE',
          identity,
          size: bytes,
          limit: profile.cache?.limit,
          quietMs: profile.quietMs,
          onFailure: note,
          onLine: note,
        },
      );
      if (identity.version === '' && (await hasOtherBytes(file, this.#options.source.sound, UNITS)))
        await file.drop(0, UNITS);
      return file;
    } catch (error) {
      if (error instanceof CacheFileError || !disk.isBad) throw error;
      note(String(error));
      return undefined;
    }
  }

  /** Whether the source is an NBD server whose disk is served. */
  get #isServer(): boolean {
    const { isWritable, faults } = this.#options.profile;
    return isWritable || faults.otherDisk;
  }

  #serve(image: Image): ServedDisk {
    const { source, profile } = this.#options;
    if (this.#isServer) return writableDisk(source, image.reader, profile.isWritable);
    return readOnlyDisk({ reader: image.reader, offset: 0, size: image.reader.map.size });
  }

  /** @param isReplaced whether the server has another disk, where it may */
  #comeBack(isReplaced: boolean): void {
    const { profile, scheduler, source, replaceDisk } = this.#options;
    if (source.isAlive) return;
    if (isReplaced && profile.faults.otherDisk) {
      scheduler.note('the server below has another disk');
      replaceDisk();
    }
    source.comeBack();
    this.#backSince = scheduler.steps;
    if (this.#isServer) void this.clients?.compare();
  }

  /** Something fails. */
  #disturb(): void {
    const { profile, scheduler, source, disk } = this.#options;
    const { losses, fullDisk, badDisk } = profile.faults;
    const { random } = scheduler;
    if (losses && source.isAlive && random.chance(0.5)) {
      const isEnd = profile.faults.volatile && random.chance(0.6);
      scheduler.note(isEnd ? 'the server below is killed' : 'the source is lost');
      source.lose(isEnd);
      scheduler.add('the source is back', () => this.#comeBack(random.chance(0.5)));
    } else if (fullDisk && random.chance(0.4)) {
      disk.isFull = !disk.isFull;
      scheduler.note(`the disk of the cache ${disk.isFull ? 'is full' : 'has room'}`);
    } else if (badDisk && random.chance(0.2)) {
      disk.isBad = true;
      scheduler.note('the disk of the cache fails');
    }
  }
}
