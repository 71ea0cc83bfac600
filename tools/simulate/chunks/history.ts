// One history: sessions of the chunk server on one cache file, with crashes between them, and the checks of all.

import { adoptFiles } from '../../../src/chunks/cache/cache-file.js';
import type { Identity } from '../../../src/chunks/contract/cache.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import { Random } from '../random.js';
import { ChangingChecker, type Checker, FixedChecker, ReplacedChecker } from './checker.js';
import { BLOCK, BLOCKS, byteOf, compressedFile, SIZE, UNITS } from './content.js';
import { CacheDisk } from './disk.js';
import { makeProfile, type Profile } from './profile.js';
import { Scheduler } from './scheduler.js';
import { Session, type SessionOptions } from './session.js';
import { Source } from './source.js';
import { Violation } from './violation.js';

/** The chance that one read of the source fails, with that fault. */
const ERRORS = 0.05;

/** The outcome of a history. */
export interface Result {
  readonly violation: Violation | undefined;
  readonly steps: number;
  /** A number that is the same for the same history. */
  readonly digest: number;
  /** Answered requests, and what else happened. */
  readonly counts: ReadonlyMap<string, number>;
}

/** The bytes of a source, and what its reads may return. */
interface Content {
  bytes: Buffer;
  readonly checker: Checker;
  readonly coding: SessionOptions['coding'];
}

function plainImage(image: number): Buffer {
  const bytes = Buffer.alloc(SIZE);
  for (let block = 0; block < BLOCKS; block++)
    bytes.fill(byteOf(block, 0, image), block * BLOCK, (block + 1) * BLOCK);
  return bytes;
}

function contentOf({ kind, isWritable, damage, faults }: Profile, image: number): Content {
  if (kind === undefined && isWritable) {
    const checker = new ChangingChecker(image);
    return { bytes: checker.disk, checker, coding: 'plain' };
  }
  if (kind === undefined) {
    const bytes = plainImage(image);
    const checker = faults.otherDisk ? new ReplacedChecker(bytes) : new FixedChecker(bytes);
    return { bytes, checker, coding: 'plain' };
  }
  const { coding, file, bytes } = compressedFile(kind, image);
  const checker = new FixedChecker(bytes);
  if (damage === undefined) return { bytes: file, checker, coding };
  const at = Math.floor(damage.at * file.length);
  if (damage.how === 'cut') return { bytes: file.subarray(0, at), checker, coding };
  const flipped = Buffer.from(file);
  flipped[at] ^= 0x10;
  return { bytes: flipped, checker, coding };
}

class History {
  readonly counts = new Map<string, number>();
  readonly #profile: Profile;
  readonly #scheduler: Scheduler;
  readonly #disk: CacheDisk;
  #image = 0;
  #content: Content;

  constructor(profile: Profile, scheduler: Scheduler) {
    this.#profile = profile;
    this.#scheduler = scheduler;
    this.#disk = new CacheDisk(scheduler);
    this.#content = contentOf(profile, 0);
  }

  async play(): Promise<void> {
    const { sessions, faults } = this.#profile;
    const { random } = this.#scheduler;
    for (let number = 0; number < sessions; number++) {
      if (number > 0 && faults.otherImage && random.chance(0.4)) {
        if (faults.otherDisk) this.#replaceDisk();
        else this.#content = contentOf(this.#profile, ++this.#image);
        this.#count('another image');
      }
      this.#disk.isBad = false;
      this.#disk.isFull = false;
      await this.#session();
      await this.#checkCache();
      if (faults.volatile && random.chance(0.4)) this.#endServer();
    }
  }

  get #identity(): Identity {
    const { coding, bytes } = this.#content;
    // The server of a disk tells no version.
    const version = this.#profile.faults.otherDisk ? '' : `${this.#image}`;
    return { source: 'disk', coding, fileSize: bytes.length, version };
  }

  #count(what: string, more = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + more);
  }

  async #session(): Promise<void> {
    const scheduler = this.#scheduler;
    const content = this.#content;
    const { bytes, checker, coding } = content;
    let session: Session | undefined;
    if (checker instanceof ReplacedChecker) checker.settle();
    const source = new Source({
      scheduler,
      size: bytes.length,
      parallel: this.#profile.parallel,
      bytes: (offset, length) => Uint8Array.from(content.bytes.subarray(offset, offset + length)),
      send: (offset, length) => session?.clients?.sent(offset, length),
      change: (offset, data, isDurable) => {
        if (checker instanceof ChangingChecker)
          checker.arrive(offset, data, isDurable || !this.#profile.faults.volatile);
        session?.clients?.arrived(offset, data.length);
      },
      flush: () => {
        if (checker instanceof ChangingChecker) checker.flush();
      },
      end: () => this.#endServer(),
      isVolatile: this.#profile.faults.volatile,
      errors: this.#profile.faults.errors ? ERRORS : 0,
      onRead: (offset) => session?.noteSourceRead(Math.floor(offset / UNIT)) ?? ((): void => undefined),
    });
    session = new Session({
      profile: this.#profile,
      scheduler,
      disk: this.#disk,
      source,
      checker,
      coding,
      identity: this.#identity,
      replaceDisk: () => this.#replaceDisk(),
    });
    const isOpen = await session.open();
    this.#count(isOpen ? 'sessions' : 'refused sessions');
    if (isOpen) await session.run();
    await this.#end(session, isOpen);
    this.#count('answers', session.clients?.answered ?? 0);
  }

  /** The server below, which is only read, has another disk. */
  #replaceDisk(): void {
    const { checker } = this.#content;
    if (!(checker instanceof ReplacedChecker)) return;
    this.#content.bytes = plainImage(++this.#image);
    checker.replace(this.#content.bytes);
    this.#count('other disks');
  }

  /** The process of the server below ends, and is started again. */
  #endServer(): void {
    const { checker } = this.#content;
    if (!(checker instanceof ChangingChecker)) return;
    const lost = checker.lose(this.#scheduler.random);
    this.#scheduler.note(`the server below has ended: ${lost} blocks are lost`);
    this.#count('lost blocks', lost);
  }

  async #end(session: Session, isOpen: boolean): Promise<void> {
    const { random } = this.#scheduler;
    const isLast = this.#profile.sessions === 1;
    if (isOpen && (isLast || random.chance(0.4))) {
      await session.finish();
      await session.end();
      this.#count('orderly ends');
      return;
    }
    const isPowerFailure = random.chance(0.5);
    this.#scheduler.note(isPowerFailure ? 'the power fails' : 'the chunk server is killed');
    this.#count(isPowerFailure ? 'power failures' : 'kills');
    session.abandon();
    this.#disk.crash(isPowerFailure);
  }

  /** Compares all that the cache file has with the image. @throws Violation */
  async #checkCache(): Promise<void> {
    if (this.#profile.cache === undefined || this.#disk.dataSize === 0) return;
    const { checker, coding } = this.#content;
    if (checker instanceof ReplacedChecker) checker.settle();
    this.#disk.isBad = false;
    const fail = (line: string): void => this.#scheduler.note(line);
    const copy = this.#disk.copy();
    const open = adoptFiles(
      { data: copy.file('data'), index: copy.file('index') },
      { size: copy.dataSize, onDisk: 0 },
      {
        path: 'FILE',
        identity: this.#identity,
        size: copy.dataSize,
        limit: undefined,
        onFailure: fail,
        onLine: fail,
      },
    );
    const file = await this.#scheduler.settled(open, 'the cache is never open');
    for (let unit = 0; unit < UNITS; unit++) {
      const bytes = await this.#scheduler.settled(file.read(unit), 'the cache is never read');
      if (bytes === undefined) continue;
      checker.cached(unit * UNIT, bytes);
      this.#count('units found in the cache');
    }
    await this.#scheduler.settled(file.close(), 'the cache is never closed');
    this.#scheduler.clear();
    this.#count(`cache of ${coding}`);
  }
}

const violationOf = (error: unknown): Violation =>
  error instanceof Violation
    ? error
    : new Violation('crash', error instanceof Error ? (error.stack ?? error.message) : String(error));

/** Plays the history of a seed. @param log gets its lines */
export async function play(seed: number, log?: string[]): Promise<Result> {
  const profile = makeProfile(seed);
  const scheduler = new Scheduler(new Random(seed ^ 0x5bd1e995), log);
  scheduler.note(JSON.stringify(profile));
  const history = new History(profile, scheduler);
  let violation: Violation | undefined;
  const onRejection = (error: unknown): void => {
    violation ??= violationOf(error);
  };
  process.on('unhandledRejection', onRejection);
  const restore = scheduler.time.install();
  try {
    await history.play();
  } catch (error) {
    violation ??= violationOf(error);
  } finally {
    restore();
    process.off('unhandledRejection', onRejection);
  }
  return { violation, steps: scheduler.steps, digest: scheduler.digest, counts: history.counts };
}
