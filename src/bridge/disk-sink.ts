// Where the replies of one of a disk's connections go: into the kernel, into blocks, to the disk.
//
// Called by the reply receiver in the middle of receiving. A READ that one command answers whole is
// written to the device from where it lies in the reply buffer, its spent NBD header overwritten by
// the kernel's; anything else is put together in the operation's block.

import { OUT_HEADER } from '../fuse/layout.js';
import { NBD_CMD_READ, NBD_ESHUTDOWN } from '../nbd/constants.js';
import { NbdProtocolError } from '../nbd/errors.js';
import type { ReplySink } from '../nbd/reply.js';
import { libc } from '../os/libc.js';
import { type Block, type Blocks, HEADROOM } from './blocks.js';
import { COMMAND_LOST, type Command } from './command.js';
import { type Connection, type ConnectionOwner, LARGE_READ } from './connection.js';
import { COUNTER } from './counters.js';
import type { Disk } from './disk.js';
import type { DiskContext } from './disk-context.js';
import { OPERATION_READ } from './operation.js';
import { SPLICE_DECLINED } from './splice-lane.js';

/** Numbers of extents that one BLOCK_STATUS may fill in: more are ignored, since the rest can be asked for. */
const MAX_EXTENTS = 65_536;

/** Upper half of the lengths from which on a number is not exact. */
const LONG_EXTENT_HI = 2 ** 21;

/** See the file's head. */
export class DiskSink implements ConnectionOwner, ReplySink<Command> {
  /** The connection whose replies come; set once, right after both are made. */
  connection: Connection | undefined = undefined;
  readonly #disk: Disk;
  readonly #context: DiskContext;

  constructor(disk: Disk, context: DiskContext) {
    this.#disk = disk;
    this.#context = context;
  }

  get blocks(): Blocks {
    return this.#context.blocks;
  }

  find(cookieHi: number, cookieLo: number): Command | undefined {
    return this.#context.commands.find(cookieHi, cookieLo, this.connection);
  }

  data(command: Command, at: number, bytes: Uint8Array, start: number, end: number, only: boolean): void {
    const operation = command.operation;
    const connection = this.connection;
    if (connection === undefined) return;
    if (operation === undefined) {
      // Somebody waits for it if it checks an identity; otherwise nobody does.
      if (command.check !== undefined)
        libc.memcpy(this.placePayload(command, at), connection.inAddress + start, end - start);
      return;
    }
    if (
      only &&
      operation.kind === OPERATION_READ &&
      command.length === operation.length &&
      operation.block === undefined
    ) {
      if (operation.answered) return;
      operation.answered = true;
      if (this.#disk.identity.wanted) this.#disk.saw(command, bytes, start);
      const header = start - OUT_HEADER;
      this.#context.device.reply(
        connection.inView,
        header,
        connection.inAddress + header,
        OUT_HEADER + command.length,
        0,
        operation,
      );
      return;
    }
    libc.memcpy(this.placePayload(command, at), connection.inAddress + start, end - start);
  }

  hole(command: Command, at: number, length: number): void {
    const block = this.#blockOf(command);
    block.bytes.fill(0, command.blockAt + at, command.blockAt + at + length);
  }

  extents(command: Command, contextId: number, payload: DataView, start: number, wide: boolean): void {
    // A context's number is the connection's own.
    const context = this.connection?.info.metaContexts.find(({ id }) => id === contextId);
    if (context === undefined)
      throw new NbdProtocolError('the server reported a metadata context that was not negotiated');
    if (context.name !== 'base:allocation') return;
    command.extents ??= [];
    const each = wide ? 16 : 8;
    for (
      let at = start;
      at + each <= payload.byteLength && command.extents.length < MAX_EXTENTS;
      at += each
    ) {
      // All states that there are have their bit in the lower half of 64.
      if (!wide) command.extents.push(payload.getUint32(at), payload.getUint32(at + 4));
      else if (payload.getUint32(at) < LONG_EXTENT_HI)
        command.extents.push(Number(payload.getBigUint64(at)), payload.getUint32(at + 12));
      else {
        // It ends beyond every question, but where exactly, a number cannot say.
        command.extents.push(LONG_EXTENT_HI * 2 ** 32, payload.getUint32(at + 12));
        return;
      }
    }
  }

  finished(command: Command, error: number, text: string): void {
    const connection = this.connection;
    if (connection === undefined) return;
    if (error === 0 && !connection.hasLeftWhole(command))
      throw new NbdProtocolError('the server answered a request before it was sent');
    connection.answered(command);
    if (error === NBD_ESHUTDOWN && command.state !== COMMAND_LOST && command.check === undefined) {
      // Not a failure of the command: it goes out again when the server is back.
      command.connection = undefined;
      connection.giveUp('the server is shutting down');
      this.#disk.sendLater(command);
      return;
    }
    if (error === 0 && command.type === NBD_CMD_READ && this.#disk.identity.wanted) this.#sample(command);
    this.#disk.answered(command, error, text);
  }

  placePayload(command: Command, at: number): number {
    return this.#blockOf(command).address + command.blockAt + at;
  }

  splicePayload(descriptor: number, command: Command, at: number, length: number, whole: boolean): number {
    const operation = command.operation;
    if (!whole || length + at < LARGE_READ || operation === undefined) return SPLICE_DECLINED;
    if (operation.kind !== OPERATION_READ || operation.block !== undefined) return SPLICE_DECLINED;
    if (command.length !== operation.length) return SPLICE_DECLINED;
    return this.#context.lanes.move(descriptor, command, operation, at, length);
  }

  connectionLost(connection: Connection, why: string, breach: boolean): void {
    this.#context.connectionLost(this.#disk, connection, why, breach);
  }

  connectionClosed(connection: Connection): void {
    this.#disk.connectionClosed(connection);
  }

  moved(received: number, sent: number): void {
    this.#disk.counters[COUNTER.socketIn] += received;
    this.#disk.counters[COUNTER.socketOut] += sent;
  }

  /** Shows the data of a READ that have come into memory. */
  #sample(command: Command): void {
    // What a new connection is asked for is no sample before it is compared.
    const data = command.operation === undefined ? undefined : (command.block ?? command.operation.block);
    if (data !== undefined) this.#disk.saw(command, data.bytes, command.blockAt);
  }

  #blockOf(command: Command): Block {
    if (command.block !== undefined) return command.block;
    const operation = command.operation;
    if (operation?.block !== undefined) return operation.block;
    const block = this.#context.blocks.take(operation?.length ?? command.length);
    if (operation === undefined) command.block = block;
    else {
      operation.block = block;
      operation.blockAt = HEADROOM;
    }
    return block;
  }
}
