// The end of a worker: let what is under way finish, FLUSH, say NBD_CMD_DISC; or, when that takes too long,
// surrender: everything fails, the kernel hands out what it still holds, and it is noted what was lost.
//
// Advanced by the loop once a turn, until it says that it is over.

import { EIO, errnoName } from '../../linux/errno.js';
import { NBD_CMD_FLUSH } from '../../nbd/constants.js';
import type { StopOutcome } from '../contract/messages.js';
import type { Disk } from '../disk/disk.js';
import { BACKGROUND_FLUSH } from '../flight/fuse-request.js';
import { Ranges } from '../memory/ranges.js';
import { toBigInt } from '../memory/u64.js';
import type { Engine } from '../request/engine.js';

const STAGE_NONE = 0;
const STAGE_DRAIN = 1;
const STAGE_FLUSH = 2;
const STAGE_FAIL_ALL = 3;

/** Milliseconds in which the kernel may hand out what it still holds, once it is refused. */
const FAIL_ALL_TIME = 700;

/** Milliseconds for which the end waits for answers on connections that were given up. */
const ANSWER_TIME = 5000;

const UNPROVEN =
  'the server may still execute older writes from lost connections; restart it before you mount its export again';

/** Ranges named in the outcome. */
const MAX_RANGES = 16;

/** See the file's head. */
export class Shutdown {
  readonly #engine: Engine;
  readonly #disks: readonly Disk[];
  readonly #named: boolean;
  #stage = STAGE_NONE;
  #deadline = Number.POSITIVE_INFINITY;
  #deviceGone = false;
  #patience = Number.POSITIVE_INFINITY;
  /** What was refused since the surrender, by the disks' numbers. */
  readonly #refused: Ranges[] = [];

  /** @param named whether what is told of a disk names its file */
  constructor(engine: Engine, disks: readonly Disk[], named: boolean) {
    this.#engine = engine;
    this.#disks = disks;
    this.#named = named;
  }

  get begun(): boolean {
    return this.#stage !== STAGE_NONE;
  }

  /** Begins, or brings the deadline (milliseconds of the worker's clock) forward. */
  begin(deadline: number): void {
    if (this.#stage === STAGE_NONE) this.#stage = STAGE_DRAIN;
    this.#deadline = Math.min(this.#deadline, deadline);
  }

  /** Whether everything is refused. */
  get hasFailedAll(): boolean {
    return this.#stage === STAGE_FAIL_ALL;
  }

  /** No request of the kernel will come any more. */
  deviceGone(): void {
    this.#deviceGone = true;
  }

  /** Does what can be done now; true when it is over. */
  advance(now: number): boolean {
    if (this.#stage === STAGE_NONE) return false;
    if (this.#stage === STAGE_FAIL_ALL) return this.#deviceGone || now >= this.#deadline;
    if (this.#stage === STAGE_DRAIN && !this.#engine.requests.busy) {
      this.#stage = STAGE_FLUSH;
      for (const disk of this.#disks) this.#startFlush(disk);
    }
    if (this.#stage === STAGE_FLUSH && this.#isFlushed() && this.#isAnswered(now)) {
      for (const disk of this.#disks) {
        if (disk.lost.any) disk.warn(UNPROVEN);
        for (const connection of disk.closing) connection.abort();
        for (const connection of disk.connections) connection.disconnect();
      }
      return true;
    }
    if (now >= this.#deadline) this.#surrender(now);
    return false;
  }

  /** What did not reach the server's stable storage. */
  outcome(): StopOutcome {
    const flushError = this.#disks.find((disk) => disk.flushError !== 0)?.flushError ?? 0;
    const missing = this.hasFailedAll || flushError !== 0;
    const unwritten = this.#disks.map((disk, i) => this.#unwritten(disk, missing, this.#refused[i]));
    const lost = this.#disks.some((disk) => disk.lossError !== 0) ? 'loss' : '';
    return {
      unwrittenBytes: unwritten.reduce((sum, { bytes }) => sum + bytes, 0),
      ranges: this.#texts(unwritten),
      reason: this.hasFailedAll ? 'timeout' : flushError === 0 ? lost : errnoName(flushError),
    };
  }

  /** Some ranges of each file, by their disks' numbers, with its name where there may be several. */
  #texts(unwritten: readonly Ranges[]): string[] {
    const each = Math.max(1, Math.floor(MAX_RANGES / unwritten.filter(({ bytes }) => bytes > 0).length));
    const texts = unwritten.flatMap((ranges, i) => {
      const name = this.#named ? `${this.#disks[i].node.name}: ` : '';
      return ranges.texts(each).map((text) => `${name}${text}`);
    });
    return texts.slice(0, MAX_RANGES);
  }

  #isFlushed(): boolean {
    if (this.#engine.requests.busy) return false;
    return this.#disks.every((disk) => disk.connections.every((one) => one.flushed));
  }

  /** Whether connections that were given up have been answered, or will not be soon: who mounts next may write there. */
  #isAnswered(now: number): boolean {
    this.#patience = Math.min(this.#patience, now + ANSWER_TIME);
    return now >= this.#patience || this.#disks.every(({ closing }) => closing.length === 0);
  }

  #surrender(now: number): void {
    this.#stage = STAGE_FAIL_ALL;
    this.#deadline = now + FAIL_ALL_TIME;
    this.#disks.forEach((disk, i) => {
      const refused = new Ranges();
      this.#refused[i] = refused;
      disk.failAll(EIO, refused);
    });
  }

  /** What was refused, and what is remembered since no FLUSH has covered it. */
  #unwritten(disk: Disk, missing: boolean, refused = new Ranges()): Ranges {
    for (const { offsetHi, offsetLo, length } of missing ? disk.unflushed.list() : [])
      refused.add(toBigInt(offsetHi, offsetLo), length);
    return refused;
  }

  #startFlush(disk: Disk): void {
    if (!disk.can.flush || !(disk.dirty || !disk.unflushed.empty)) return;
    if (disk.waiting && disk.failing !== 0) {
      disk.flushEnded(disk.failing);
      return;
    }
    const engine = this.#engine;
    const request = engine.begin(BACKGROUND_FLUSH, disk);
    engine.submit(engine.command(request, disk, NBD_CMD_FLUSH), disk);
    engine.settle(request);
  }
}
