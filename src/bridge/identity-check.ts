// Asks a new connection for the blocks by which the disk is known, before it is given anything else.
//
// Made by a disk's Recovery. A block that is being changed meanwhile decides nothing.

import { NBD_CMD_READ } from '../nbd/constants.js';
import { HEADROOM } from './blocks.js';
import type { Command } from './command.js';
import type { Connection } from './connection.js';
import type { Disk } from './disk.js';
import type { Sample } from './identity.js';
import { join } from './offsets.js';

/** See the file's head. */
export class IdentityCheck {
  readonly #disk: Disk;
  readonly #connection: Connection;
  readonly #done: () => void;
  readonly #asked = new Map<Command, Sample>();
  readonly #tried = new Set<Sample>();
  #isConfirmed = false;
  /** Whether the server could not read a block. */
  #hasFailed = false;

  /** @param done hears that it is the same disk, as far as is known */
  constructor(disk: Disk, connection: Connection, done: () => void) {
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
      command.block = context.blocks.take(command.length);
      command.blockAt = HEADROOM;
      command.check = this;
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
    const { context, identity, node } = this.#disk;
    if (node.readOnly) {
      context.warn(this.#disk, `${what} while the server was away`);
      identity.reset();
      this.#asked.clear();
      this.#done();
    } else {
      this.#connection.foreign = true;
      this.#connection.lose(what, false);
    }
  }

  /** One of its commands is answered. */
  answered(command: Command, error: number): void {
    const sample = this.#asked.get(command);
    this.#asked.delete(command);
    const { block } = command;
    if (sample === undefined || block === undefined || this.#connection.lost) return;
    const { bytes, offsetHi, offsetLo } = sample;
    const found = block.bytes.subarray(HEADROOM, HEADROOM + bytes.length);
    const isKnown = this.#disk.identity.samples.includes(sample);
    if (error === 0 && isKnown && Buffer.compare(found, bytes) !== 0) {
      this.#differs(`the bytes at offset ${join(offsetHi, offsetLo)} have changed`);
      return;
    }
    this.#isConfirmed ||= error === 0 && isKnown;
    this.#hasFailed ||= error !== 0 && isKnown;
    if (this.#asked.size === 0) this.#end();
  }
}
