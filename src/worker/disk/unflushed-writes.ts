// What the server has answered and may still lose: writes that no FLUSH has covered.
//
// Owned by a Disk. A write is remembered, data and all, from its reply to the success of a FLUSH that
// was sent later; after the server was lost they are all sent again, oldest first, before anything
// else. Nothing is remembered when the limit is 0 (the server cannot FLUSH, so promises nothing).

import { COMMAND_UNFLUSHED, type NbdCommand } from '../flight/nbd-command.js';

/** Bytes that a command takes without any data: its object. */
const COMMAND_COST = 512;

/** The remembered commands of one disk. */
export class UnflushedWrites {
  /** Bytes of memory at which a FLUSH should be sent to be allowed to forget. */
  readonly limit: number;
  /** Bytes of memory held. */
  bytes = 0;
  readonly #release: (command: NbdCommand) => void;
  #kept: NbdCommand[] = [];
  #head = 0;
  #sequence = 0;
  /** Number of the last write that had to be forgotten before a FLUSH covered it; 0 for none. */
  #dropped = 0;

  /** @param release gives a command that is forgotten back, with its memory */
  constructor(limit: number, release: (command: NbdCommand) => void) {
    this.limit = limit;
    this.#release = release;
  }

  /** Whether nothing is remembered. */
  get empty(): boolean {
    return this.#head === this.#kept.length;
  }

  /** Whether something was forgotten that no FLUSH has covered: then a lost server loses data. */
  get incomplete(): boolean {
    return this.#dropped > 0;
  }

  /** The number up to which a FLUSH that is sent now covers. */
  get mark(): number {
    return this.#sequence;
  }

  /** Remembers an answered write. Beyond twice the limit it is forgotten at once instead. */
  keep(command: NbdCommand): void {
    if (this.limit === 0 || this.bytes + this.#cost(command) > 2 * this.limit) {
      if (this.limit > 0) this.#dropped = ++this.#sequence;
      this.#release(command);
      return;
    }
    command.state = COMMAND_UNFLUSHED;
    command.request = undefined;
    command.connection = undefined;
    command.sequence = ++this.#sequence;
    command.cost = this.#cost(command);
    this.bytes += command.cost;
    this.#kept.push(command);
  }

  /** Forgets what a FLUSH that was sent at `mark` has covered. */
  forget(mark: number): void {
    if (this.#dropped <= mark) this.#dropped = 0;
    while (this.#head < this.#kept.length && this.#kept[this.#head].sequence <= mark) {
      const command = this.#kept[this.#head++];
      this.bytes -= command.cost;
      this.#release(command);
    }
    if (this.#head < 1024 && this.#head < this.#kept.length) return;
    this.#kept = this.#kept.slice(this.#head);
    this.#head = 0;
  }

  /** Remembers another command in the place of one. */
  replace(command: NbdCommand, other: NbdCommand): void {
    const at = this.#kept.indexOf(command, this.#head);
    if (at >= 0) this.#kept[at] = other;
  }

  /** The loss of what was forgotten has been told. */
  admitLoss(): void {
    this.#dropped = 0;
  }

  /** The remembered commands, oldest first. */
  list(): readonly NbdCommand[] {
    return this.#kept.slice(this.#head);
  }

  /** Bytes of memory that a command holds: its whole block, unless it shares it. */
  #cost(command: NbdCommand): number {
    if (command.buffer === undefined) return COMMAND_COST;
    return command.buffer.references > 2 ? command.length : command.buffer.capacity;
  }
}
