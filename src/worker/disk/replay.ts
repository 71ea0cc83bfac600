// Sends the unflushed writes again after the server was lost: it has acknowledged them and may have forgotten them.
//
// Recovery makes one when a connection may be used; replies drive it. Commands go out oldest first, several at a time,
// but never two that overlap, since a server may carry out commands in flight in any order. A FLUSH after each part
// makes that part durable, so that a connection that is lost in the middle still brings the replay forward.

import { NBD_CMD_FLUSH } from '../../nbd/constants.js';
import type { Connection } from '../connection/connection.js';
import {
  COMMAND_UNFLUSHED,
  type CommandTable,
  type NbdCommand,
  type ReplyWaiter,
} from '../flight/nbd-command.js';
import { toBigInt } from '../memory/u64.js';
import { type LostCopies, overlaps, PROOF_PATIENCE } from './lost-copies.js';
import type { UnflushedWrites } from './unflushed-writes.js';

/** Commands in flight while replaying. */
const WINDOW = 16;

/** A FLUSH follows after so many bytes, or so many commands. */
const PART_BYTES = 1024 * 1024;
const PART_COMMANDS = 256;

/** What a replay needs of its disk. */
export interface ReplayDisk {
  readonly context: { readonly commands: Pick<CommandTable, 'renew' | 'take'>; now(): number };
  readonly lost: LostCopies;
  readonly unflushed: UnflushedWrites;
  assign(command: NbdCommand, connection: Connection): void;
  /** Acknowledged bytes may be gone: the next fsync fails, and the user sees the reason. */
  lose(why: string): void;
}

/** One replay, on one connection. */
export class Replay implements ReplyWaiter {
  readonly connection: Connection;
  readonly #disk: ReplayDisk;
  readonly #commands: readonly NbdCommand[];
  readonly #goOn: () => void;
  readonly #inFlight = new Set<NbdCommand>();
  #next = 0;
  #saidLoss = false;
  readonly #blocked = new Map<NbdCommand, number>();
  /** How many copies were lost when `#blocked` was computed. */
  #lostCount = 0;
  /** Bytes and commands sent since the last FLUSH. */
  #partBytes = 0;
  #partCommands = 0;
  #isFlushing = false;
  /** Whether every FLUSH of this replay has succeeded. */
  #canFlush = true;

  /** @param goOn is called when a FLUSH has been answered: `advance` can send more */
  constructor(disk: ReplayDisk, connection: Connection, goOn: () => void) {
    this.#disk = disk;
    this.connection = connection;
    this.#commands = disk.unflushed.list();
    this.#goOn = goOn;
  }

  get finished(): boolean {
    return this.#next === this.#commands.length && this.#inFlight.size === 0 && !this.#isFlushing;
  }

  /** Sends what may be sent now. */
  advance(): void {
    for (const command of [...this.#inFlight]) {
      if (command.state === COMMAND_UNFLUSHED) this.#inFlight.delete(command);
    }
    this.#findBlocked();
    while (!this.#isFlushing && this.#next < this.#commands.length && this.#inFlight.size < WINDOW) {
      if (this.#isPartSent()) {
        if (this.#inFlight.size === 0) this.#flushPart();
        return;
      }
      const command = this.#commands[this.#next];
      if ([...this.#inFlight].some((other) => overlaps(command, other))) return;
      const since = this.#blocked.get(command);
      if (since !== undefined && this.#disk.context.now() - since < PROOF_PATIENCE) return;
      this.#next++;
      if (since === undefined) this.#send(command);
      else this.#leaveOut();
    }
  }

  /** The FLUSH after a part is answered. */
  answered(_flush: NbdCommand, error: number): void {
    this.#isFlushing = false;
    // A server that cannot flush keeps its writes here; the FLUSH after the replay reports the error.
    this.#canFlush = error === 0;
    if (error === 0) this.#disk.unflushed.forget(this.#commands[this.#next - 1].sequence);
    this.#goOn();
  }

  #isPartSent(): boolean {
    return this.#canFlush && (this.#partBytes >= PART_BYTES || this.#partCommands >= PART_COMMANDS);
  }

  #flushPart(): void {
    this.#partBytes = 0;
    this.#partCommands = 0;
    this.#isFlushing = true;
    const flush = this.#disk.context.commands.take();
    flush.type = NBD_CMD_FLUSH;
    flush.waiter = this;
    this.#disk.assign(flush, this.connection);
  }

  #send(command: NbdCommand): void {
    this.#inFlight.add(command);
    this.#partBytes += command.length;
    this.#partCommands++;
    this.#disk.context.commands.renew(command);
    command.replayed = true;
    this.#disk.assign(command, this.connection);
  }

  #leaveOut(): void {
    if (!this.#saidLoss)
      this.#disk.lose(
        'a write cannot be sent again, because the server may still execute an older write to the same bytes',
      );
    this.#saidLoss = true;
  }

  /**
   * Finds the commands that must not be sent yet, and since when: a lost copy of an older change overlaps them; or they
   * overlap a newer command of which that is true, and would undo it if they were sent alone.
   */
  #findBlocked(): void {
    const { lost } = this.#disk;
    if (lost.count === this.#lostCount) return;
    this.#lostCount = lost.count;
    this.#blocked.clear();
    for (let at = this.#commands.length - 1; lost.any && at >= this.#next; at--) {
      const command = this.#commands[at];
      const start = toBigInt(command.offsetHi, command.offsetLo);
      let since = lost.overlapping(start, start + BigInt(command.length), command.change);
      for (const [newer, its] of this.#blocked)
        if (since === undefined && overlaps(command, newer)) since = its;
      if (since !== undefined) this.#blocked.set(command, since);
    }
  }
}
