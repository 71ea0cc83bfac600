// Unflushed writes: answered by the server, not covered by a FLUSH, so the server may lose them.
//
// Owned by a Disk. A write stays here with its data from its reply until a FLUSH sent later succeeds. After a loss of
// the server, a replay sends all of them again. With limit 0 none are kept: the server has no FLUSH, so it promises
// nothing.

import { COMMAND_FREE, COMMAND_UNFLUSHED, type NbdCommand } from '../flight/nbd-command.js';
import { assert } from '../memory/assert.js';

/** Estimated size of a command without data, in bytes. */
const COMMAND_COST = 512;

/** The unflushed writes of one disk. */
export class UnflushedWrites {
  /** Bytes of memory at which a FLUSH is due. */
  readonly limit: number;
  /** Bytes of memory in use. */
  bytes = 0;
  readonly #release: (command: NbdCommand) => void;
  #writes: NbdCommand[] = [];
  #head = 0;
  #sequence = 0;
  /** Number of the last write that was dropped before a FLUSH covered it; 0: none. */
  #dropped = 0;

  /** @param release releases a command and its buffer */
  constructor(limit: number, release: (command: NbdCommand) => void) {
    this.limit = limit;
    this.#release = release;
  }

  /** Whether there are none. */
  get empty(): boolean {
    return this.#head === this.#writes.length;
  }

  /** Whether a write was dropped that no FLUSH has covered. A restarted server may have lost it. */
  get incomplete(): boolean {
    return this.#dropped > 0;
  }

  /** The number of the last write that a FLUSH sent now covers. */
  get mark(): number {
    return this.#sequence;
  }

  /** Adds an answered write. Beyond twice the limit it is dropped at once. */
  keep(command: NbdCommand): void {
    if (this.limit === 0 || this.bytes + this.#cost(command) > 2 * this.limit) {
      if (this.limit > 0) this.#dropped = ++this.#sequence;
      this.#release(command);
      return;
    }
    assert(command.state !== COMMAND_FREE && command.state !== COMMAND_UNFLUSHED, 'a write is kept once');
    command.state = COMMAND_UNFLUSHED;
    command.request = undefined;
    command.connection = undefined;
    command.sequence = ++this.#sequence;
    command.cost = this.#cost(command);
    this.bytes += command.cost;
    this.#writes.push(command);
  }

  /** Removes the writes that a FLUSH sent at `mark` has covered. */
  forget(mark: number): void {
    if (this.#dropped <= mark) this.#dropped = 0;
    while (this.#head < this.#writes.length && this.#writes[this.#head].sequence <= mark) {
      const command = this.#writes[this.#head++];
      this.bytes -= command.cost;
      this.#release(command);
    }
    assert(
      this.bytes >= 0 && (this.bytes === 0 || !this.empty),
      'bytes of unflushed writes are those of a write',
    );
    if (this.#head < 1024 && this.#head < this.#writes.length) return;
    this.#writes = this.#writes.slice(this.#head);
    this.#head = 0;
  }

  /** Replaces a command by its copy. */
  replace(command: NbdCommand, other: NbdCommand): void {
    const at = this.#writes.indexOf(command, this.#head);
    if (at >= 0) this.#writes[at] = other;
  }

  /** Records that the user knows of the dropped writes. */
  admitLoss(): void {
    this.#dropped = 0;
  }

  /** The commands, oldest first. */
  list(): readonly NbdCommand[] {
    return this.#writes.slice(this.#head);
  }

  /** Bytes of memory for a command: its whole buffer, unless it shares one. */
  #cost(command: NbdCommand): number {
    if (command.buffer === undefined) return COMMAND_COST;
    return command.buffer.references > 2 ? command.length : command.buffer.capacity;
  }
}
