// Sending again, after the server was lost, what it had answered and may have forgotten.
//
// Made by a disk's Recovery when there is a connection again, and driven by the answers. Remembered commands go
// out oldest first, several at a time, but never two that overlap at once, since a server may carry
// out what is in flight in any order.

import { COMMAND_KEPT, type Command } from './command.js';
import type { Connection } from './connection.js';
import type { Disk } from './disk.js';
import { overlaps, PROOF_PATIENCE } from './lost-copies.js';
import { join } from './offsets.js';

/** Commands in flight while replaying. */
const WINDOW = 16;

/** One replay, on one connection. */
export class Replay {
  readonly connection: Connection;
  readonly #disk: Disk;
  readonly #commands: readonly Command[];
  readonly #inFlight = new Set<Command>();
  #next = 0;
  #isLossTold = false;
  readonly #blocked = new Map<Command, number>();
  /** How many copies were lost when that was found out. */
  #lostCount = 0;

  constructor(disk: Disk, connection: Connection, commands: readonly Command[]) {
    this.#disk = disk;
    this.connection = connection;
    this.#commands = commands;
  }

  get finished(): boolean {
    return this.#next === this.#commands.length && this.#inFlight.size === 0;
  }

  /** Sends what may be sent now. */
  advance(): void {
    for (const command of [...this.#inFlight]) {
      if (command.state === COMMAND_KEPT) this.#inFlight.delete(command);
    }
    this.#findBlocked();
    while (this.#next < this.#commands.length && this.#inFlight.size < WINDOW) {
      const command = this.#commands[this.#next];
      if ([...this.#inFlight].some((other) => overlaps(command, other))) return;
      const since = this.#blocked.get(command);
      if (since !== undefined && this.#disk.context.now() - since < PROOF_PATIENCE) return;
      this.#next++;
      if (since === undefined) this.#send(command);
      else this.#leaveOut();
    }
  }

  #send(command: Command): void {
    this.#inFlight.add(command);
    this.#disk.context.commands.renew(command);
    command.replayed = true;
    this.#disk.assign(command, this.connection);
  }

  #leaveOut(): void {
    if (!this.#isLossTold)
      this.#disk.lose(
        'a write cannot be sent again, because the server may still execute an older write to the same bytes',
      );
    this.#isLossTold = true;
  }

  /**
   * Finds the commands that must not be sent yet, and since when: a copy of an older change that they overlap is lost on
   * the way; or they overlap a newer command of which that is true, and would undo it if they were sent alone.
   */
  #findBlocked(): void {
    const { lost } = this.#disk;
    if (lost.count === this.#lostCount) return;
    this.#lostCount = lost.count;
    this.#blocked.clear();
    for (let at = this.#commands.length - 1; lost.any && at >= this.#next; at--) {
      const command = this.#commands[at];
      const start = join(command.offsetHi, command.offsetLo);
      let since = lost.overlapping(start, start + BigInt(command.length), command.change);
      for (const [newer, its] of this.#blocked)
        if (since === undefined && overlaps(command, newer)) since = its;
      if (since !== undefined) this.#blocked.set(command, since);
    }
  }
}
