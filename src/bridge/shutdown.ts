// The orderly end of a worker: let what is under way finish, FLUSH, say NBD_CMD_DISC.
//
// Advanced by the loop once a turn, until it says that all is done or the deadline has passed.

import { NBD_CMD_FLUSH, NBD_CMD_WRITE } from '../nbd/constants.js';
import { errnoName } from '../os/errno.js';
import type { Disk } from './disk.js';
import type { Engine } from './engine.js';
import type { StopOutcome } from './messages.js';
import { join } from './offsets.js';
import { OPERATION_INTERNAL } from './operation.js';

const STAGE_NONE = 0;
const STAGE_DRAIN = 1;
const STAGE_FLUSH = 2;
const STAGE_OVER = 3;

/** Ranges named in the outcome. */
const MAX_RANGES = 16;

/** See the file's head. */
export class Shutdown {
  readonly #engine: Engine;
  readonly #disks: readonly Disk[];
  #stage = STAGE_NONE;
  #deadline = Number.POSITIVE_INFINITY;
  #timedOut = false;

  constructor(engine: Engine, disks: readonly Disk[]) {
    this.#engine = engine;
    this.#disks = disks;
  }

  get begun(): boolean {
    return this.#stage !== STAGE_NONE;
  }

  /** Begins, or brings the deadline (milliseconds of the worker's clock) forward. */
  begin(deadline: number): void {
    if (this.#stage === STAGE_NONE) this.#stage = STAGE_DRAIN;
    this.#deadline = Math.min(this.#deadline, deadline);
  }

  /** Does what can be done now; true when it is over. */
  advance(now: number): boolean {
    if (this.#stage === STAGE_NONE) return false;
    if (this.#stage === STAGE_DRAIN && !this.#engine.operations.busy) {
      this.#stage = STAGE_FLUSH;
      for (const disk of this.#disks) this.#startFlush(disk);
    }
    if (this.#stage === STAGE_FLUSH && !this.#engine.operations.busy) {
      if (this.#disks.every((disk) => disk.connections.every((one) => one.flushed))) this.#stage = STAGE_OVER;
    }
    if (this.#stage !== STAGE_OVER && now < this.#deadline) return false;
    this.#timedOut = this.#stage !== STAGE_OVER;
    for (const disk of this.#disks) {
      for (const connection of disk.connections) connection.disconnect();
    }
    return true;
  }

  /** What did not reach the server's stable storage. */
  outcome(): StopOutcome {
    const ranges: string[] = [];
    let unwrittenBytes = 0;
    const flushError = this.#disks.find((disk) => disk.flushError !== 0)?.flushError ?? 0;
    const missing = this.#timedOut || flushError !== 0;
    for (const command of missing ? this.#engine.commands.inUse() : []) {
      if (command.type !== NBD_CMD_WRITE) continue;
      unwrittenBytes += command.length;
      if (ranges.length >= MAX_RANGES) continue;
      ranges.push(`offset ${join(command.offsetHi, command.offsetLo)} length ${command.length}`);
    }
    const lost = this.#disks.some((disk) => disk.lossError !== 0);
    const unlucky = lost ? 'loss' : '';
    const reason = this.#timedOut ? 'timeout' : flushError === 0 ? unlucky : errnoName(flushError);
    return { unwrittenBytes, ranges, reason };
  }

  #startFlush(disk: Disk): void {
    if (!disk.can.flush || !(disk.dirty || !disk.journal.empty)) return;
    if (disk.waiting && disk.failing !== 0) {
      disk.flushEnded(disk.failing);
      return;
    }
    const engine = this.#engine;
    const operation = engine.begin(OPERATION_INTERNAL, disk);
    engine.command(operation, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
    engine.settle(operation);
  }
}
