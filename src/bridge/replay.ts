// Sending again, after the server was lost, what it had answered and may have forgotten.
//
// Made by a disk's Recovery when there is a connection again, and driven by the answers. Remembered commands go
// out oldest first, several at a time, but never two that overlap at once, since a server may carry
// out what is in flight in any order.

import { COMMAND_KEPT, type Command } from './command.js';
import type { Connection } from './connection.js';
import type { Disk } from './disk.js';
import { PROOF_PATIENCE } from './lost-copies.js';
import { distance, join } from './offsets.js';

/** Commands in flight while replaying. */
const WINDOW = 16;

function overlaps(a: Command, b: Command): boolean {
  const apart = distance(a.offsetHi, a.offsetLo, b.offsetHi, b.offsetLo);
  return apart < b.length && -apart < a.length;
}

/** One replay, on one connection. */
export class Replay {
  readonly connection: Connection;
  readonly #disk: Disk;
  readonly #commands: readonly Command[];
  readonly #inFlight = new Set<Command>();
  #next = 0;
  #isLossTold = false;

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
    while (this.#next < this.#commands.length && this.#inFlight.size < WINDOW) {
      const command = this.#commands[this.#next];
      if ([...this.#inFlight].some((other) => overlaps(command, other))) return;
      const proof = this.#proofFor(command);
      if (proof === 'awaited') return;
      this.#next++;
      if (proof === 'missing') continue;
      this.#inFlight.add(command);
      this.#disk.context.commands.renew(command);
      command.replayed = true;
      this.#disk.assign(command, this.connection);
    }
  }

  /** Whether a command may be sent: a copy of an older change that it overlaps may be lost on the way. */
  #proofFor({ offsetHi, offsetLo, length, change }: Command): 'there' | 'awaited' | 'missing' {
    const disk = this.#disk;
    if (!disk.lost.any) return 'there';
    const start = join(offsetHi, offsetLo);
    const since = disk.lost.overlapping(start, start + BigInt(length), change);
    if (since === undefined) return 'there';
    if (disk.context.now() - since < PROOF_PATIENCE) return 'awaited';
    if (!this.#isLossTold)
      disk.lose('a write cannot be sent again, since an older one to the same place may still be made');
    this.#isLossTold = true;
    return 'missing';
  }
}
