// The reader under orders of events from a seed: decoders, losses, evictions and changes of the disk.
//
// The world has one byte for each unit, its version. A read may return any version from the newest one that was
// acknowledged before the read began to the newest one that was sent before it ended.
//
// The server of a plain disk is volatile: a loss takes back any acknowledged changes that no FLUSH has covered. The
// cache file must have no bytes that a loss can take back, and the memory none that a loss has taken back.

import { describe, expect, it } from 'vitest';
import { MemoryCache } from '../../../../src/chunks/cache/memory.js';
import type { UnitFile } from '../../../../src/chunks/contract/cache.js';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import { ReadError } from '../../../../src/chunks/reader/errors.js';
import { ChangedError, Reader } from '../../../../src/chunks/reader/reader.js';
import type { SourceEvents } from '../../../../src/chunks/reader/source.js';
import { Store } from '../../../../src/chunks/reader/store.js';
import { PointMap, plainMap } from '../../../../src/chunks/schedule/chunk-map.js';
import { BACKGROUND, DEMAND, type Task } from '../../../../src/chunks/schedule/tasks.js';
import { mulberry } from '../../../support/random.js';

const UNITS = 40;
const SIZE = UNITS * UNIT;
const MAX_OPEN = 3;

/** A cache file whose reads end when the world says so, or at once. */
class SlowFile implements UnitFile {
  /** Whether the kernel has the bytes in memory. */
  isHot = (): boolean => false;
  readonly index = undefined;
  readonly trace = undefined;
  readonly nonce = undefined;
  readonly touch = (unit: number): boolean => this.has(unit);
  readonly isComplete = false;
  readonly isBehind = false;
  readonly leftOut = 0;
  readonly refusal = undefined;
  readonly limit = Number.POSITIVE_INFINITY;
  readonly free = Number.POSITIVE_INFINITY;
  readonly isWriting = false;
  readonly kept = new Map<number, Uint8Array>();
  readonly reads: (() => void)[] = [];

  get count(): number {
    return this.kept.size;
  }

  has(unit: number): boolean {
    return this.kept.has(unit);
  }

  units(): [] {
    return [];
  }

  async read(unit: number, from: number, to: number): Promise<Uint8Array | undefined> {
    const before = this.kept.get(unit)?.subarray(from, to);
    await new Promise<void>((resolve) => this.reads.push(resolve));
    return this.kept.has(unit) ? before : undefined;
  }

  readNow(unit: number, from: number, to: number): Uint8Array | undefined {
    return this.isHot() ? this.kept.get(unit)?.subarray(from, to) : undefined;
  }

  write(unit: number, bytes: Uint8Array): void {
    this.kept.set(unit, bytes);
  }

  drop(first: number, count: number): undefined {
    for (let unit = first; unit < first + count; unit++) this.kept.delete(unit);
  }

  saveIndex(): void {}
  saveTrace(): void {}
  flush = (): Promise<void> => Promise.resolve();
  close = (): Promise<void> => Promise.resolve();
}

interface Running {
  readonly task: Task;
  /** The version that a fetch has read, which it began before. */
  version: number;
}

class World {
  readonly random: (below: number) => number;
  readonly reader: Reader;
  readonly isPlain: boolean;
  /** The content of the server. */
  readonly server = new Uint8Array(UNITS);
  readonly sent = new Uint8Array(UNITS);
  readonly acknowledged = new Uint8Array(UNITS);
  /** The content of the server that a loss leaves. */
  readonly durable = new Uint8Array(UNITS);
  /** FLUSHes that the server has carried out, and whose answers are on their way. */
  readonly flushes: (() => void)[] = [];
  readonly running: Running[] = [];
  readonly changes: { unit: number; version: number; isMade: boolean }[] = [];
  /** Units that a plain program would fetch twice: decoded although they were kept. */
  reads = 0;
  settled = 0;
  readonly problems: string[] = [];
  readonly file = new SlowFile();
  #events: SourceEvents | undefined;

  constructor(seed: number) {
    this.random = mulberry(seed);
    this.isPlain = this.random(2) === 0;
    this.file.isHot = () => this.random(3) === 0;
    const points = [0];
    while (points[points.length - 1] < SIZE)
      points.push(points[points.length - 1] + 1 + this.random(this.random(2) === 0 ? 3 * UNIT : 12 * UNIT));
    const map = this.isPlain
      ? plainMap(SIZE)
      : new PointMap(
          SIZE,
          points.slice(0, -1).map((out) => ({ in: out, out })),
        );
    this.reader = new Reader({
      map,
      store: new Store(new MemoryCache(6 + this.random(20)), this.random(2) === 0 ? this.file : undefined),
      mostAhead: this.random(12),
      onLine: () => undefined,
      source: (events) => {
        this.#events = events;
        return {
          maxOpen: MAX_OPEN,
          open: (task) => this.running.push({ task, version: this.server[task.position] }),
          change: () => undefined,
          close: (task) => {
            const at = this.running.findIndex((one) => one.task === task);
            if (at >= 0) this.running.splice(at, 1);
            else this.problems.push('a task was closed that is not open');
          },
        };
      },
    });
  }

  get events(): SourceEvents {
    if (this.#events === undefined) throw new Error('no source');
    return this.#events;
  }

  read(unit: number): void {
    const before = this.acknowledged[unit];
    this.reads += 1;
    const value = this.reader.isChanging(unit) ? this.#past(unit) : this.reader.read(unit * UNIT, 1);
    void Promise.resolve(value)
      .then((parts) => parts[0][0])
      .catch((error: unknown) => {
        if (error instanceof ChangedError) return this.server[unit];
        if (error instanceof ReadError) return undefined;
        throw error;
      })
      .then((version) => {
        this.settled += 1;
        if (version === undefined) return;
        // A loss takes acknowledged versions back.
        const least = Math.min(before, this.acknowledged[unit]);
        if (version < least || version > this.sent[unit])
          this.problems.push(`unit ${unit}: read ${version}, not ${least} to ${this.sent[unit]}`);
      });
  }

  #past(unit: number): Uint8Array[] {
    return [Uint8Array.of(this.server[unit])];
  }

  change(unit: number): void {
    // Changes of one unit do not overlap here: the worker above sees to their order.
    if (this.changes.some((change) => change.unit === unit) || this.sent[unit] === 255) return;
    this.sent[unit] += 1;
    this.reader.beginChange(unit, unit + 1);
    this.changes.push({ unit, version: this.sent[unit], isMade: false });
  }

  /** One step of a change: it is made, or acknowledged. */
  advance(): void {
    if (this.changes.length === 0) return;
    const at = this.random(this.changes.length);
    const change = this.changes[at];
    if (!change.isMade) {
      this.server[change.unit] = change.version;
      change.isMade = true;
      return;
    }
    this.changes.splice(at, 1);
    this.acknowledged[change.unit] = change.version;
    this.reader.endChange(change.unit, change.unit + 1, false);
  }

  /** The server carries out a FLUSH; its answer comes later. */
  flush(): void {
    void this.reader.flush(async () => {
      this.durable.set(this.server);
      await new Promise<void>((answer) => this.flushes.push(answer));
    });
  }

  /** The server is lost, with some changes that it has answered, and is back at once. */
  lose(): void {
    this.flushes.length = 0;
    for (const [unit, version] of this.durable.entries()) {
      const isUnderWay = this.changes.some((change) => change.unit === unit);
      if (!isUnderWay && this.random(2) === 0) this.server[unit] = version;
      this.acknowledged[unit] = Math.min(this.acknowledged[unit], this.server[unit]);
      this.durable[unit] = this.server[unit];
    }
    this.reader.lost();
  }

  /** The cache file must not have bytes that a loss can take back. */
  look(): void {
    for (const [unit, bytes] of this.file.kept)
      if (this.isPlain && bytes[0] !== this.durable[unit])
        this.problems.push(
          `unit ${unit}: the cache file has ${bytes[0]}, and a loss leaves ${this.durable[unit]}`,
        );
  }

  /** The memory must not have bytes that the server has lost. */
  async compare(): Promise<void> {
    for (let unit = 0; unit < UNITS; unit++) {
      const kept = this.isPlain ? await this.#kept(unit) : undefined;
      if (kept !== undefined && kept !== this.server[unit])
        this.problems.push(`unit ${unit}: ${kept} is kept, and the server has ${this.server[unit]}`);
    }
  }

  async #kept(unit: number): Promise<number | undefined> {
    const found = this.reader.kept(unit * UNIT, 1);
    for (const end of this.file.reads.splice(0)) end();
    return (await found)?.[0];
  }

  /** A decoder makes a unit, or fails. */
  make(canFail: boolean): void {
    const able = this.running.filter(({ task }) => task.position < task.goal);
    if (able.length === 0) return;
    // The most urgent first, as the threads do, but not always.
    const urgent = able.filter(({ task }) => task.priority === DEMAND);
    const among = urgent.length > 0 && this.random(4) > 0 ? urgent : able;
    const one = among[this.random(among.length)];
    if (canFail && this.random(30) === 0) this.events.failed(one.task, new Error('lost'));
    else this.events.made(one.task, Uint8Array.of(this.isPlain ? one.version : 0));
  }

  async step(): Promise<void> {
    const kind = this.random(20);
    const unit = this.random(UNITS);
    if (kind < 7) this.read(this.random(3) === 0 ? unit : this.reads % UNITS);
    else if (kind < 15) this.make(true);
    else if (kind === 15) this.reader.fetch(unit, BACKGROUND);
    else if (this.isPlain && kind < 18) this.change(unit);
    else if (this.isPlain && this.random(4) === 0) this.lose();
    else if (this.isPlain && this.random(6) === 0) this.flush();
    else if (this.random(3) === 0) this.flushes.shift()?.();
    else this.advance();
    const { reads, kept } = this.file;
    if (reads.length > 0 && this.random(3) === 0) reads.splice(this.random(reads.length), 1)[0]();
    if (this.random(6) === 0) kept.delete(unit);
    if (this.running.length > MAX_OPEN) this.problems.push(`${this.running.length} tasks are open`);
    await Promise.resolve();
    this.look();
    if (this.random(10) === 0) await this.compare();
  }

  async finish(): Promise<void> {
    for (let round = 0; round < 2000 && (this.settled < this.reads || this.changes.length > 0); round++) {
      this.advance();
      this.make(false);
      for (const end of this.file.reads.splice(0)) end();
      await new Promise((next) => setImmediate(next));
    }
    if (this.settled < this.reads)
      this.problems.push(`${this.reads - this.settled} reads were never answered`);
    await this.compare();
  }
}

describe('reader of chunks', () => {
  it('answers every read, with bytes that are not older than acknowledged writes', async () => {
    for (let seed = 1; seed <= 400; seed++) {
      const world = new World(seed);
      for (let step = 0; step < 200; step++) await world.step();
      await world.finish();
      expect(world.problems, `seed ${seed}`).toEqual([]);
    }
  });
});
