// The destination of replies on one connection of a disk: the kernel, a buffer, or the disk's state.
//
// The reply receiver calls it while it receives. If one command answers a whole READ, the data go to /dev/fuse from the
// reply buffer, with the FUSE header in place of the used NBD header. Otherwise the request's buffer gathers the data.

import { OUT_HEADER } from '../../fuse/layout.js';
import { libc } from '../../linux/libc.js';
import { NBD_CMD_READ } from '../../nbd/constants.js';
import { mustDisconnect, NbdProtocolError } from '../../nbd/errors.js';
import { decodeExtents, negotiatedContext } from '../../nbd/extents.js';
import { type Connection, LARGE_READ, type PayloadSink } from '../connection/connection.js';
import type { Device } from '../device/device.js';
import { REQUEST_READ } from '../flight/fuse-request.js';
import { COMMAND_LOST, type CommandTable, type NbdCommand } from '../flight/nbd-command.js';
import { SPLICE_DECLINED, type SplicePipes } from '../flight/splice-pipe.js';
import { type BufferPool, HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';

/** Most numbers of one BLOCK_STATUS reply that are used. The next BLOCK_STATUS asks for the rest. */
const MAX_EXTENTS = 65_536;

/** Bytes from which on a double is not exact. */
const LONG_EXTENT = 2n ** 53n;

/** The part of a disk that a reply sink uses. */
export interface SinkDisk {
  readonly identity: { readonly wanted: boolean };
  readonly context: {
    readonly buffers: BufferPool;
    readonly commands: Pick<CommandTable, 'find'>;
    readonly device: Pick<Device, 'reply'>;
    readonly splicePipes: Pick<SplicePipes, 'move'>;
  };
  /** A command's reply is complete. @param error the server's NBD_E* or 0 */
  answered(command: NbdCommand, error: number, text: string): void;
  /** Queues a command again that the server did not carry out, and gives up its connection. */
  sendLater(command: NbdCommand, connection: Connection): void;
  /** Data of a READ have arrived, at byte `at` of `bytes`. */
  saw(command: NbdCommand, bytes: Uint8Array, at: number): void;
}

/** See the file's head. */
export class DiskReplySink implements PayloadSink {
  /** The connection of the replies; set once, right after its construction. */
  connection: Connection | undefined = undefined;
  readonly #disk: SinkDisk;
  readonly #context: SinkDisk['context'];

  constructor(disk: SinkDisk) {
    this.#disk = disk;
    this.#context = disk.context;
  }

  find(cookieHi: number, cookieLo: number): NbdCommand | undefined {
    return this.#context.commands.find(cookieHi, cookieLo, this.connection);
  }

  data(command: NbdCommand, at: number, _bytes: Uint8Array, start: number, end: number): void {
    // Of replies without a request, only those of an identity check have a reader.
    if (command.request === undefined && command.waiter === undefined) return;
    const address = (this.connection?.inAddress ?? 0) + start;
    libc.memcpy(this.placePayload(command, at), address, end - start);
  }

  wholeData(command: NbdCommand, bytes: Uint8Array, start: number): void {
    const { request } = command;
    const { connection } = this;
    const isReply =
      request?.kind === REQUEST_READ && command.length === request.length && request.buffer === undefined;
    if (connection === undefined || !isReply) {
      this.data(command, 0, bytes, start, start + command.length);
      return;
    }
    if (request.answered) return;
    request.markAnswered();
    if (this.#disk.identity.wanted) this.#disk.saw(command, bytes, start);
    const header = start - OUT_HEADER;
    const address = connection.inAddress + header;
    this.#context.device.reply(connection.inView, header, address, OUT_HEADER + command.length, request);
  }

  hole(command: NbdCommand, at: number, length: number): void {
    const buffer = this.#bufferOf(command);
    buffer.bytes.fill(0, command.bufferAt + at, command.bufferAt + at + length);
  }

  extents(command: NbdCommand, contextId: number, payload: DataView, start: number, wide: boolean): void {
    const info = this.connection?.info;
    if (info === undefined || negotiatedContext(info, contextId).name !== 'base:allocation') return;
    command.extents ??= [];
    for (const { length, flags } of decodeExtents(payload, start, wide)) {
      if (command.extents.length >= MAX_EXTENTS) return;
      // A long extent ends beyond every request, and its exact end does not fit a number.
      const isLong = length >= LONG_EXTENT;
      command.extents.push(Number(isLong ? LONG_EXTENT : length), flags);
      if (isLong) return;
    }
  }

  finished(command: NbdCommand, error: number, text: string): void {
    const connection = this.connection;
    if (connection === undefined) return;
    if (error === 0 && !connection.hasLeftWhole(command))
      throw new NbdProtocolError('the server answered a request before it was sent');
    connection.answered(command);
    if (mustDisconnect(error) && command.state !== COMMAND_LOST && command.waiter === undefined) {
      // The command did not fail: it is sent again when the server is back.
      this.#disk.sendLater(command, connection);
      return;
    }
    if (error === 0 && command.type === NBD_CMD_READ && this.#disk.identity.wanted) this.#sample(command);
    this.#disk.answered(command, error, text);
  }

  placePayload(command: NbdCommand, at: number): number {
    return this.#bufferOf(command).address + command.bufferAt + at;
  }

  splicePayload(descriptor: number, command: NbdCommand, at: number, length: number, whole: boolean): number {
    const request = command.request;
    if (!whole || length + at < LARGE_READ || request === undefined) return SPLICE_DECLINED;
    if (request.kind !== REQUEST_READ || request.buffer !== undefined) return SPLICE_DECLINED;
    if (command.length !== request.length) return SPLICE_DECLINED;
    return this.#context.splicePipes.move(descriptor, command, request, at, length);
  }

  /** Offers the data of a READ in memory to the disk's identity. */
  #sample(command: NbdCommand): void {
    // An identity check must not take its samples from the connection that it checks.
    const data = command.request === undefined ? undefined : (command.buffer ?? command.request.buffer);
    if (data !== undefined) this.#disk.saw(command, data.bytes, command.bufferAt);
  }

  #bufferOf(command: NbdCommand): PooledBuffer {
    if (command.buffer !== undefined) return command.buffer;
    const request = command.request;
    if (request?.buffer !== undefined) return request.buffer;
    const buffer = this.#context.buffers.take(request?.length ?? command.length);
    if (request === undefined) command.buffer = buffer;
    else request.setPayload(buffer, HEADROOM);
    return buffer;
  }
}
