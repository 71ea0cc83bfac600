// Compares the sample blocks of a disk's identity with the disk behind a new connection, before any other command.
//
// Made by Recovery. A sample that is replaced meanwhile decides nothing.

import { NBD_CMD_READ } from '../../nbd/constants.js';
import type { Connection } from '../connection/connection.js';
import type { CommandTable, NbdCommand, ReplyWaiter } from '../flight/nbd-command.js';
import { type BufferPool, HEADROOM } from '../memory/buffer-pool.js';
import { toBigInt } from '../memory/u64.js';
import type { Identity, Sample } from './identity.js';

/** The part of a disk that an identity check uses. */
export interface CheckedDisk {
  readonly context: { readonly commands: Pick<CommandTable, 'take'>; readonly buffers: BufferPool };
  readonly identity: Identity;
  readonly node: { readonly readOnly: boolean };
  /** Flag of a READ whose error the server reports without disconnecting; 0: it has none. */
  readonly wholeReply: number;
  assign(command: NbdCommand, connection: Connection): void;
  warn(text: string): void;
}

/** See the file's head. */
export class IdentityCheck implements ReplyWaiter {
  readonly #disk: CheckedDisk;
  readonly #connection: Connection;
  readonly #done: (isConfirmed: boolean) => void;
  /** The READ in flight, and its sample. */
  #reading: { readonly command: NbdCommand; readonly sample: Sample } | undefined;
  readonly #tried = new Set<Sample>();
  #isConfirmed = false;
  /** Whether the server has failed a READ. */
  #hasFailed = false;

  /** @param done is called when no sample differs. `isConfirmed`: at least one was compared */
  constructor(disk: CheckedDisk, connection: Connection, done: (isConfirmed: boolean) => void) {
    this.#disk = disk;
    this.#connection = connection;
    this.#done = done;
  }

  /**
   * Sends the next READ, or calls `done` when no sample is left. One at a time: nbdkit 1.32 may abort if a connection
   * closes with several replies in it.
   */
  begin(): void {
    const { context, identity } = this.#disk;
    const sample = identity.samples.find((one) => !this.#tried.has(one));
    if (sample === undefined) {
      this.#end();
      return;
    }
    this.#tried.add(sample);
    const command = context.commands.take();
    command.type = NBD_CMD_READ;
    command.flags = this.#disk.wholeReply;
    command.offsetHi = sample.offsetHi;
    command.offsetLo = sample.offsetLo;
    command.length = sample.length;
    command.buffer = context.buffers.take(command.length);
    command.bufferAt = HEADROOM;
    command.waiter = this;
    this.#reading = { command, sample };
    this.#disk.assign(command, this.#connection);
  }

  /** All samples are compared. If the server could not read any, another connection may. */
  #end(): void {
    // Until then an unknown disk must get no write, neither an unflushed one nor a later one.
    if (!this.#isConfirmed && this.#hasFailed && !this.#disk.node.readOnly)
      this.#connection.end({
        manner: 'aborted',
        why: 'the server cannot read the blocks that identify the disk',
      });
    else this.#done(this.#isConfirmed);
  }

  /** Rejects the connection if writes could go to the wrong disk. A disk that is only read may be another by now. */
  #differs(what: string): void {
    const { identity, node } = this.#disk;
    if (node.readOnly) {
      this.#disk.warn(`${what} while the server was away`);
      identity.reset();
      this.#done(true);
    } else {
      this.#connection.end({ manner: 'other disk', why: what });
    }
  }

  /** A READ is answered. */
  answered(command: NbdCommand, error: number): void {
    const reading = this.#reading;
    this.#reading = undefined;
    const { buffer } = command;
    if (reading?.command !== command || buffer === undefined || this.#connection.lost) return;
    const { sample } = reading;
    const { length, offsetHi, offsetLo } = sample;
    const found = buffer.bytes.subarray(HEADROOM, HEADROOM + length);
    const isKnown = this.#disk.identity.samples.includes(sample);
    if (error === 0 && isKnown && !sample.matches(found)) {
      this.#differs(`the bytes at offset ${toBigInt(offsetHi, offsetLo)} have changed`);
      return;
    }
    this.#isConfirmed ||= error === 0 && isKnown;
    this.#hasFailed ||= error !== 0 && isKnown;
    this.begin();
  }
}
