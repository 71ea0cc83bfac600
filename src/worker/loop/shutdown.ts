// The end of a worker: waits for the requests in progress, flushes, and sends NBD_CMD_DISC. After the
// deadline it fails everything, takes the kernel's remaining writes and reports the lost bytes.
//
// Called by the loop once a turn, until it is over.

import { EIO } from '../../constants/errno.js';
import { errnoReason } from '../../linux/errno.js';
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

/** Milliseconds for the kernel's remaining writes after everything fails. */
const FAIL_ALL_TIME = 700;

/** Milliseconds that the end waits for replies on connections that were given up. */
const ANSWER_TIME = 5000;

const UNPROVEN =
  'the server may still execute older writes from lost connections; restart it before you mount its export again';

/** Most ranges in the outcome. */
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
  /** Ranges of writes that failed after the deadline, by disk. */
  readonly #refused: Ranges[] = [];

  /** @param named whether texts about a disk name its file */
  constructor(engine: Engine, disks: readonly Disk[], named: boolean) {
    this.#engine = engine;
    this.#disks = disks;
    this.#named = named;
  }

  get begun(): boolean {
    return this.#stage !== STAGE_NONE;
  }

  /** Begins the end, or makes its deadline earlier. @param deadline milliseconds of the worker's clock */
  begin(deadline: number): void {
    if (this.#stage === STAGE_NONE) this.#stage = STAGE_DRAIN;
    this.#deadline = Math.min(this.#deadline, deadline);
  }

  /** Whether everything fails. */
  get hasFailedAll(): boolean {
    return this.#stage === STAGE_FAIL_ALL;
  }

  /** Records that no request of the kernel will come. */
  deviceGone(): void {
    this.#deviceGone = true;
  }

  /** Takes the next possible steps; true when it is over. */
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
        for (const connection of disk.closing) connection.end({ manner: 'aborted', why: 'nbdfuse stops' });
        for (const connection of disk.connections) connection.end({ manner: 'finished' });
      }
      return true;
    }
    if (now >= this.#deadline) this.#failAll(now);
    return false;
  }

  /** The writes that did not reach stable storage. @param hasLost whether there was a loss that no fsync has reported */
  outcome(hasLost: boolean): StopOutcome {
    const flushError = this.#disks.find((disk) => disk.flushError !== 0)?.flushError ?? 0;
    const missing = this.hasFailedAll || flushError !== 0;
    const unwritten = this.#disks.map((disk, i) => this.#unwritten(disk, missing, this.#refused[i]));
    const lost = hasLost ? 'loss' : '';
    return {
      unwrittenBytes: unwritten.reduce((sum, { bytes }) => sum + bytes, 0),
      ranges: this.#texts(unwritten),
      reason: this.hasFailedAll ? 'timeout' : flushError === 0 ? lost : errnoReason(flushError),
    };
  }

  /** Some ranges of each disk, with the name of its file where there may be several. */
  #texts(unwritten: readonly Ranges[]): string[] {
    const texts = unwritten.map((ranges, i) => {
      const name = this.#named ? `${this.#disks[i].node.name}: ` : '';
      return ranges.texts(MAX_RANGES).map((text) => `${name}${text}`);
    });
    return shared(texts, MAX_RANGES);
  }

  #isFlushed(): boolean {
    if (this.#engine.requests.busy) return false;
    return this.#disks.every((disk) => disk.connections.every((one) => one.flushed));
  }

  /** Whether given-up connections have their replies, or waited long enough. A later mount may write to the disk. */
  #isAnswered(now: number): boolean {
    this.#patience = Math.min(this.#patience, now + ANSWER_TIME);
    return now >= this.#patience || this.#disks.every(({ closing }) => closing.length === 0);
  }

  #failAll(now: number): void {
    this.#stage = STAGE_FAIL_ALL;
    this.#deadline = now + FAIL_ALL_TIME;
    this.#disks.forEach((disk, i) => {
      const refused = new Ranges();
      this.#refused[i] = refused;
      disk.failAll(EIO, refused);
    });
  }

  /** Ranges of a disk that failed, and with `missing` its unflushed writes. */
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

/** `most` of the items of all lists, or all if there are no more. A short list leaves its rest to the longer ones. */
function shared<T>(lists: readonly (readonly T[])[], most: number): T[] {
  const shares = new Map<readonly T[], number>();
  let left = most;
  lists
    .toSorted((a, b) => a.length - b.length)
    .forEach((list, i) => {
      const share = Math.min(list.length, Math.floor(left / (lists.length - i)));
      shares.set(list, share);
      left -= share;
    });
  return lists.flatMap((list) => list.slice(0, shares.get(list)));
}
