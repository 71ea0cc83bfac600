// Asks a new connection for the blocks by which the disk is known, before it is given anything else.
//
// Made by a disk's Recovery. A block that is being changed meanwhile decides nothing.

import { NBD_CMD_READ } from '../../nbd/constants.js';
import type { Connection } from '../connection/connection.js';
import type { CommandTable, NbdCommand, ReplyWaiter } from '../flight/nbd-command.js';
import { type BufferPool, HEADROOM } from '../memory/buffer-pool.js';
import { toBigInt } from '../memory/u64.js';
import type { Identity, Sample } from './identity.js';

/** What an identity check needs of its disk. */
export interface CheckedDisk {
  readonly context: { readonly commands: Pick<CommandTable, 'take'>; readonly buffers: BufferPool };
  readonly identity: Identity;
  readonly node: { readonly readOnly: boolean };
  /** Whether a server that was started anew might lack acknowledged bytes. */
  readonly mayLose: boolean;
  assign(command: NbdCommand, connection: Connection): void;
  warn(text: string): void;
}

/** See the file's head. */
export class IdentityCheck implements ReplyWaiter {
  readonly #disk: CheckedDisk;
  readonly #connection: Connection;
  readonly #done: () => void;
  readonly #asked = new Map<NbdCommand, Sample>();
  readonly #tried = new Set<Sample>();
  #isConfirmed = false;
  /** Whether the server could not read a block. */
  #hasFailed = false;

  /** @param done hears that it is the same disk, as far as is known */
  constructor(disk: CheckedDisk, connection: Connection, done: () => void) {
    this.#disk = disk;
    this.#connection = connection;
    this.#done = done;
  }

  /** Asks; with nothing to ask that is not answered it is done at once. */
  begin(): void {
    const { context, identity } = this.#disk;
    for (const sample of identity.samples) {
      if (this.#tried.has(sample)) continue;
      this.#tried.add(sample);
      const command = context.commands.take();
      command.type = NBD_CMD_READ;
      command.offsetHi = sample.offsetHi;
      command.offsetLo = sample.offsetLo;
      command.length = sample.bytes.length;
      command.buffer = context.buffers.take(command.length);
      command.bufferAt = HEADROOM;
      command.waiter = this;
      this.#asked.set(command, sample);
    }
    for (const command of this.#asked.keys()) this.#disk.assign(command, this.#connection);
    if (this.#asked.size > 0) return;
    // Another attempt may read them. Until then nothing acknowledged is sent to a disk that is not known.
    if (this.#hasFailed && this.#disk.mayLose)
      this.#connection.lose('the server cannot read the blocks that identify the disk', false);
    else this.#done();
  }

  /** All is answered: where nothing of it has decided anything, there may be other blocks to ask for by now. */
  #end(): void {
    if (this.#isConfirmed) this.#done();
    else this.begin();
  }

  /** A disk that is only read may be another by now: nothing is lost, and nothing is written to the wrong one. */
  #differs(what: string): void {
    const { identity, node } = this.#disk;
    if (node.readOnly) {
      this.#disk.warn(`${what} while the server was away`);
      identity.reset();
      this.#asked.clear();
      this.#done();
    } else {
      this.#connection.otherDisk = true;
      this.#connection.lose(what, false);
    }
  }

  /** One of its commands is answered. */
  answered(command: NbdCommand, error: number): void {
    const sample = this.#asked.get(command);
    this.#asked.delete(command);
    const { buffer } = command;
    if (sample === undefined || buffer === undefined || this.#connection.lost) return;
    const { bytes, offsetHi, offsetLo } = sample;
    const found = buffer.bytes.subarray(HEADROOM, HEADROOM + bytes.length);
    const isKnown = this.#disk.identity.samples.includes(sample);
    if (error === 0 && isKnown && Buffer.compare(found, bytes) !== 0) {
      this.#differs(`the bytes at offset ${toBigInt(offsetHi, offsetLo)} have changed`);
      return;
    }
    this.#isConfirmed ||= error === 0 && isKnown;
    this.#hasFailed ||= error !== 0 && isKnown;
    if (this.#asked.size === 0) this.#end();
  }
}
