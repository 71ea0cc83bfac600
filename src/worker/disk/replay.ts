// Sends the unflushed writes again after a loss, since the server may have forgotten them.
//
// Made by Recovery when a connection may be used; replies drive it. It sends only the newest bytes of each place: a
// server that has forgotten nothing must never show or store older ones. So no two commands overlap, and none overlaps
// a lost copy of an older change, which would have held back the newer change. Commands go out oldest first, several at
// a time. A FLUSH after each part makes it durable, so that a replay makes progress even if its connection is lost.

import { NBD_CMD_FLUSH } from '../../nbd/constants.js';
import { mustDisconnect } from '../../nbd/errors.js';
import type { Connection } from '../connection/connection.js';
import {
  COMMAND_UNFLUSHED,
  type CommandTable,
  type NbdCommand,
  type ReplyWaiter,
} from '../flight/nbd-command.js';
import type { UnflushedWrites } from './changes.js';

/** Most commands in flight. */
const WINDOW = 16;

/** Size of a part: bytes or commands after which a FLUSH follows. */
const PART_BYTES = 1024 * 1024;
const PART_COMMANDS = 256;

/** The part of a disk that a replay uses. */
export interface ReplayDisk {
  readonly context: { readonly commands: Pick<CommandTable, 'renew' | 'take' | 'part'> };
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
  readonly #resume: () => void;
  readonly #inFlight = new Set<NbdCommand>();
  #next = 0;
  /** Bytes and commands sent since the last FLUSH. */
  #partBytes = 0;
  #partCommands = 0;
  #isFlushing = false;
  /** Whether every FLUSH of this replay has succeeded. */
  #canFlush = true;

  /** @param resume is called when a FLUSH is answered, so that `advance` can send more */
  constructor(disk: ReplayDisk, connection: Connection, resume: () => void) {
    this.#disk = disk;
    this.connection = connection;
    disk.unflushed.keepNewest(disk.context.commands);
    this.#commands = disk.unflushed.list();
    this.#resume = resume;
  }

  /** Number of writes that it sends. */
  get all(): number {
    return this.#commands.length;
  }

  /** Number of them that have no reply yet. */
  get left(): number {
    const unanswered = [...this.#inFlight].filter(({ state }) => state !== COMMAND_UNFLUSHED);
    return this.#commands.length - this.#next + unanswered.length;
  }

  get finished(): boolean {
    return this.#next === this.#commands.length && this.#inFlight.size === 0 && !this.#isFlushing;
  }

  /** Sends the commands that may be sent now. */
  advance(): void {
    for (const command of [...this.#inFlight]) {
      if (command.state === COMMAND_UNFLUSHED) this.#inFlight.delete(command);
    }
    while (!this.#isFlushing && this.#next < this.#commands.length && this.#inFlight.size < WINDOW) {
      if (this.#isPartSent()) {
        if (this.#inFlight.size === 0) this.#flushPart();
        return;
      }
      this.#send(this.#commands[this.#next++]);
    }
  }

  /** The FLUSH after a part is answered. */
  answered(_flush: NbdCommand, error: number): void {
    this.#isFlushing = false;
    if (mustDisconnect(error)) {
      // Nothing is lost: the next connection gets the whole part again.
      this.connection.end({ manner: 'given up', why: 'the server is shutting down' });
      return;
    }
    this.#canFlush = error === 0;
    if (error === 0) this.#disk.unflushed.forget(this.#commands[this.#next - 1].sequence);
    // A server may report a loss only once: the FLUSH after the replay may succeed.
    else this.#disk.lose('the server failed to flush writes that were sent again after reconnecting');
    this.#resume();
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
    command.replay();
    this.#disk.assign(command, this.connection);
  }
}
