// Large READ replies by splice(2): socket → pipe → /dev/fuse, without a copy in user space.
//
// Owned by the engine, used by the reply sinks. A pipe contains one reply, the 16-byte FUSE header first, and moves it
// to /dev/fuse when it is complete. Never blocks. If the pipe is too small for the socket's segments, its content is
// read back and the rest of the reply goes through memory.

import { EAGAIN, EINTR, EINVAL, ENODEV, ENOENT } from '../../constants/errno.js';
import { OUT_HEADER } from '../../fuse/layout.js';
import { writeOutHeader } from '../../fuse/reply.js';
import { errnoReason } from '../../linux/errno.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { closePipe, type Pipe, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, widePipe } from '../../linux/pipe.js';
import { MSG_DONTWAIT, MSG_PEEK } from '../../linux/socket.js';
import { assert } from '../memory/assert.js';
import { type BufferPool, HEADROOM } from '../memory/buffer-pool.js';
import type { FuseRequest } from './fuse-request.js';
import type { NbdCommand } from './nbd-command.js';

/** Pipe sizes to try, in bytes; an unprivileged user gets 1 MiB. */
const PIPE_SIZES = [2 * 1024 * 1024, 1024 * 1024];

/** Result of `move`: the socket is empty for now. */
export const SPLICE_EMPTY = 0;
/** Result of `move`: the caller must receive the payload itself. */
export const SPLICE_DECLINED = -1;
/** Result of `move`: the server has closed the connection. */
export const SPLICE_END = -2;

/** Most pipes, for replies that arrive on several connections at once. Further replies go through memory. */
const MOST_PIPES = 4;

/** One pipe and the reply in it. */
export class SplicePipe {
  /** Whether an incomplete reply is in the pipe. */
  busy = false;
  /** The command whose reply is in the pipe. */
  command: NbdCommand | undefined = undefined;
  readonly #buffers: BufferPool;
  readonly #header = new DataView(new ArrayBuffer(OUT_HEADER));
  readonly #headerAddress = addressOf(this.#header);
  #pipe: Pipe | undefined;
  #got = 0;

  constructor(buffers: BufferPool) {
    this.#buffers = buffers;
  }

  /**
   * Moves up to `length` bytes, the rest of the payload of `command` from byte `at` on, from `socket` into the pipe.
   * A complete reply goes to the device. Returns a count or a SPLICE_*.
   */
  move(socket: number, command: NbdCommand, request: FuseRequest, at: number, length: number): number {
    if (!this.busy) this.#begin(command, request);
    if (!this.busy || this.#pipe === undefined || at !== this.#got) return SPLICE_DECLINED;
    const count = libc.splice(socket, 0, this.#pipe.write, 0, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count <= 0) return this.#stuck(count, socket, request);
    this.#got += count;
    assert(this.#got <= command.length, 'a splice pipe holds the bytes of one reply');
    if (count === length) this.#deliver(request);
    return count;
  }

  /** Drops the reply in the pipe, as its connection is lost. */
  abandon(): void {
    this.busy = false;
    this.#close();
  }

  #begin(command: NbdCommand, request: FuseRequest): void {
    this.#pipe ??= widePipe(PIPE_SIZES);
    if (this.#pipe === undefined) return;
    writeOutHeader(this.#header, 0, OUT_HEADER + command.length, 0, request);
    if (libc.write(this.#pipe.write, this.#headerAddress, OUT_HEADER) !== OUT_HEADER) return;
    this.busy = true;
    this.#got = 0;
  }

  #stuck(count: number, socket: number, request: FuseRequest): number {
    if (count === 0) return SPLICE_END;
    const error = errno();
    if (error === EINTR) return SPLICE_EMPTY;
    if (error === EAGAIN && libc.recv(socket, this.#headerAddress, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
      return SPLICE_EMPTY;
    this.#readBack(request);
    return SPLICE_DECLINED;
  }

  /** Reads the content of the pipe back into a buffer of the request. */
  #readBack(request: FuseRequest): void {
    const buffer = this.#buffers.take(request.length);
    request.setPayload(buffer, HEADROOM);
    const start = buffer.address + HEADROOM - OUT_HEADER;
    for (let at = 0; at < OUT_HEADER + this.#got; ) {
      const count = libc.read(this.#pipe?.read ?? -1, start + at, OUT_HEADER + this.#got - at);
      if (count <= 0) throw new Error(`reading from the splice pipe failed: ${errnoReason(errno())}`);
      at += count;
    }
    this.busy = false;
  }

  #deliver(request: FuseRequest): void {
    this.busy = false;
    // A signal may have freed the requester meanwhile.
    if (!request.answered) request.markAnswered();
    const whole = OUT_HEADER + this.#got;
    const count = libc.splice(
      this.#pipe?.read ?? -1,
      0,
      request.descriptor,
      0,
      whole,
      SPLICE_F_MOVE | SPLICE_F_NONBLOCK,
    );
    if (count === whole) return;
    const error = errno();
    this.#close();
    // As in Device.reply: a signal ended the request, or the file system is unmounted.
    if (count < 0 && (error === ENOENT || error === ENODEV || error === EINVAL)) return;
    throw new Error(`splicing to /dev/fuse failed: ${errnoReason(error)}`);
  }

  #close(): void {
    if (this.#pipe === undefined) return;
    closePipe(this.#pipe);
    this.#pipe = undefined;
  }
}

/** The splice pipes of a worker, created on demand and kept. */
export class SplicePipes {
  readonly #buffers: BufferPool;
  readonly #pipes: SplicePipe[] = [];

  constructor(buffers: BufferPool) {
    this.#buffers = buffers;
  }

  /** As SplicePipe.move, on the pipe of the command; the first byte of a reply takes a free pipe. */
  move(socket: number, command: NbdCommand, request: FuseRequest, at: number, length: number): number {
    const pipe = this.#find(command) ?? (at === 0 ? this.#free() : undefined);
    if (pipe === undefined) return SPLICE_DECLINED;
    pipe.command = command;
    const count = pipe.move(socket, command, request, at, length);
    if (!pipe.busy) pipe.command = undefined;
    return count;
  }

  /** Drops the reply of a command whose connection is lost. */
  abandon(command: NbdCommand): void {
    const pipe = this.#find(command);
    if (pipe === undefined) return;
    pipe.abandon();
    pipe.command = undefined;
  }

  #find(command: NbdCommand): SplicePipe | undefined {
    for (const pipe of this.#pipes) if (pipe.command === command) return pipe;
    return undefined;
  }

  #free(): SplicePipe | undefined {
    // The newest first: the order decides which pipe's pages are in the processor's cache (1M buffered reads: 5 %).
    const free = this.#pipes.findLast(({ command }) => command === undefined);
    if (free !== undefined) return free;
    if (this.#pipes.length === MOST_PIPES) return undefined;
    const pipe = new SplicePipe(this.#buffers);
    this.#pipes.push(pipe);
    return pipe;
  }
}
