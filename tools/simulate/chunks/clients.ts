// The worker above the chunk server: reads in order and at random places, and changes that never overlap.

import { type DiskConnection, isLost } from '../../../src/chunks/contract/disk.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import type { Checker } from './checker.js';
import { ChangingChecker } from './checker.js';
import { BLOCK, BLOCKS } from './content.js';
import type { Scheduler } from './scheduler.js';
import type { Source } from './source.js';
import { Violation } from './violation.js';

const SECTOR = 512;
/** Readers in order. */
const READERS = 3;
/** Places that are read again when the source has come back, as the worker does. */
const SAMPLES = 8;
/** Most bytes of a read, and most blocks of a change. */
const [MOST_READ, MOST_CHANGE] = [3 * UNIT, 9];

/** The surroundings of the clients. */
export interface ClientsOptions {
  readonly scheduler: Scheduler;
  readonly connection: DiskConnection;
  readonly source: Source;
  readonly checker: Checker;
  /** Bytes of the disk. */
  readonly size: number;
  /** Whether reads of the image may fail. */
  readonly isDamaged: boolean;
  /** Whether a change may fail, since the cache cannot forget the bytes before it. */
  readonly mayRefuse: () => boolean;
  /** Whether a read may fail, since only a cache file that has failed had the bytes. */
  readonly mayLack: () => boolean;
  /** A violation. */
  readonly onViolation: (violation: unknown) => void;
}

/** See the file's head. */
export class Clients {
  /** Requests without an answer. */
  waiting = 0;
  answered = 0;
  /** Units that reads wait for, and how many. */
  readonly demanded = new Map<number, number>();
  /** All units that reads have asked for. */
  readonly asked = new Set<number>();
  readonly #options: ClientsOptions;
  readonly #positions = new Array<number>(READERS).fill(0);
  /** Blocks with a change that has not been answered, or may still arrive. */
  readonly #changing = new Map<number, number>();
  /** The first places that were read, and how many comparisons of them are under way. */
  readonly #samples: number[] = [];
  #comparisons = 0;

  constructor(options: ClientsOptions) {
    this.#options = options;
  }

  /** Makes a request. */
  ask(): void {
    const { checker, scheduler, size } = this.#options;
    if (size === 0 || this.#comparisons > 0) return;
    const { random } = scheduler;
    if (checker instanceof ChangingChecker && random.chance(0.1)) this.#askFlush();
    else if (checker instanceof ChangingChecker && random.chance(0.3)) this.#askChange(checker);
    else if (random.chance(0.5)) {
      const reader = random.below(READERS);
      const offset = this.#positions[reader] % size;
      const length = Math.min(SECTOR * random.between(1, MOST_READ / SECTOR), size - offset);
      this.#positions[reader] = random.chance(0.05) ? random.below(size / SECTOR) * SECTOR : offset + length;
      this.#askRead(offset, length);
    } else {
      const offset = random.below(Math.ceil(size / SECTOR)) * SECTOR;
      this.#askRead(offset, Math.min(SECTOR * random.between(1, 16), size - offset));
    }
  }

  /** The source has come back: the worker reads its samples past the cache before anything else. */
  async compare(): Promise<void> {
    const { connection } = this.#options;
    this.#comparisons += 1;
    try {
      for (const offset of this.#samples) await connection.read(offset, SECTOR, { df: true });
    } catch {
      // A loss: the next return begins again. The worker goes on after an error, too.
    }
    this.#comparisons -= 1;
  }

  /** A change of blocks is on its way; `arrived` follows at any later time. */
  sent(offset: number, length: number): void {
    this.#hold(offset / BLOCK, (offset + length) / BLOCK, 1);
  }

  arrived(offset: number, length: number): void {
    this.#hold(offset / BLOCK, (offset + length) / BLOCK, -1);
  }

  #askRead(offset: number, length: number): void {
    const { checker } = this.#options;
    const check = checker.begin(offset, length);
    this.waiting += 1;
    this.#options.scheduler.note(`read of ${length} at ${offset}`);
    void this.#read(offset, length, check);
  }

  async #read(offset: number, length: number, check: (bytes: Uint8Array) => void): Promise<void> {
    const { connection, source, isDamaged, mayLack, onViolation, scheduler } = this.#options;
    const failures = source.failures;
    this.#demand(offset, length, 1);
    try {
      const parts = await connection.read(offset, length, { df: false });
      this.#demand(offset, length, -1);
      check(Buffer.concat(parts));
      if (this.#samples.length < SAMPLES) this.#samples.push(offset);
      scheduler.note(`read of ${length} at ${offset}: answered`);
    } catch (error) {
      if (error instanceof Violation) return onViolation(error);
      this.#demand(offset, length, -1);
      if (isLost(error)) return this.#later(() => void this.#read(offset, length, check));
      scheduler.note(`read of ${length} at ${offset}: ${error instanceof Error ? error.message : ''}`);
      if (!isDamaged && failures === source.failures && !mayLack())
        onViolation(
          new Violation('unexpected error', `a read of ${length} at ${offset} fails: ${String(error)}`),
        );
    }
    this.waiting -= 1;
    this.answered += 1;
  }

  #askFlush(): void {
    this.waiting += 1;
    this.#options.scheduler.note('flush');
    void this.#flush();
  }

  async #flush(): Promise<void> {
    const { connection, onViolation } = this.#options;
    try {
      await connection.flush();
    } catch (error) {
      if (isLost(error)) return this.#later(() => void this.#flush());
      onViolation(new Violation('unexpected error', `a flush fails: ${String(error)}`));
    }
    this.waiting -= 1;
    this.answered += 1;
  }

  #askChange(checker: ChangingChecker): void {
    const { random } = this.#options.scheduler;
    const first = random.below(BLOCKS);
    const end = Math.min(BLOCKS, first + random.between(1, MOST_CHANGE));
    for (let block = first; block < end; block++) if (this.#changing.has(block)) return;
    this.waiting += 1;
    // Until it is answered.
    this.#hold(first, end, 1);
    void this.#change(checker, first, end, checker.change(first, end));
  }

  async #change(checker: ChangingChecker, first: number, end: number, bytes: Buffer): Promise<void> {
    const { connection, onViolation, scheduler, source, mayRefuse } = this.#options;
    const offset = first * BLOCK;
    const isZero = bytes.every((byte) => byte === 0);
    const isFua = source.isVolatile && scheduler.random.chance(0.2);
    scheduler.note(`${isZero ? 'zeros' : 'write'} of ${bytes.length} at ${offset}`);
    try {
      if (isZero) await connection.zero(offset, bytes.length, {});
      else await connection.write(offset, bytes, { fua: isFua });
      checker.acknowledge(first, end);
      this.#hold(first, end, -1);
      scheduler.note(`write of ${bytes.length} at ${offset}: answered`);
      this.waiting -= 1;
      this.answered += 1;
    } catch (error) {
      if (isLost(error)) return this.#later(() => void this.#change(checker, first, end, bytes));
      this.#hold(first, end, -1);
      this.waiting -= 1;
      scheduler.note(`write at ${offset}: ${String(error)}`);
      if (!mayRefuse())
        onViolation(new Violation('unexpected error', `a write at ${offset} fails: ${String(error)}`));
    }
  }

  /** Asks again when the source is there. */
  #later(act: () => void): void {
    const { scheduler, source } = this.#options;
    scheduler.add('a request is made again', act, () => source.isAlive && this.#comparisons === 0);
  }

  #hold(first: number, end: number, more: number): void {
    for (let block = first; block < end; block++) {
      const count = (this.#changing.get(block) ?? 0) + more;
      if (count === 0) this.#changing.delete(block);
      else this.#changing.set(block, count);
    }
  }

  #demand(offset: number, length: number, more: number): void {
    for (let unit = Math.floor(offset / UNIT); unit * UNIT < offset + length; unit++) {
      this.asked.add(unit);
      const count = (this.demanded.get(unit) ?? 0) + more;
      if (count === 0) this.demanded.delete(unit);
      else this.demanded.set(unit, count);
    }
  }
}
