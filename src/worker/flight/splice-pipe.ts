// Large READ replies on the short way: socket → pipe → /dev/fuse, without passing through our memory.
//
// Owned by the engine, asked by the sinks. One reply is in a lane's pipe at a time, its 16-byte header first;
// it goes to the device in one piece when it is whole. Never blocks. When the pipe turns out too small
// for what the socket gives, what is in it is read back and the reply goes on through memory.

import { OUT_HEADER } from '../../fuse/layout.js';
import { writeOutHeader } from '../../fuse/reply.js';
import { EAGAIN, EINTR, EINVAL, ENODEV, ENOENT, errnoName } from '../../linux/errno.js';
import { addressOf, errno, libc } from '../../linux/libc.js';
import { closePipe, type Pipe, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, widePipe } from '../../linux/pipe.js';
import { MSG_DONTWAIT, MSG_PEEK } from '../../linux/socket.js';
import { type BufferPool, HEADROOM } from '../memory/buffer-pool.js';
import type { FuseRequest } from './fuse-request.js';
import type { NbdCommand } from './nbd-command.js';

/** Bytes of pipe to ask for; 1 MiB is what a normal user gets. */
const PIPE_SIZES = [2 * 1024 * 1024, 1024 * 1024];

/** The socket has no more for now. */
export const SPLICE_EMPTY = 0;
/** The payload must be received by other means. */
export const SPLICE_DECLINED = -1;
/** The server has closed the connection. */
export const SPLICE_END = -2;

/** Replies that come over different connections at once each take a lane; beyond that, they go through memory. */
const MOST_PIPES = 4;

/** One pipe, and the reply in it. */
export class SplicePipe {
  /** Whether a reply has begun that is not delivered yet. */
  busy = false;
  /** Whose reply it is. */
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
   * Moves up to `length` bytes, from byte `at` of the whole reply of `command` on, from `socket` into
   * the pipe, and the reply to the device when it is whole. Returns how many, or a SPLICE_*.
   */
  move(socket: number, command: NbdCommand, request: FuseRequest, at: number, length: number): number {
    if (!this.busy) this.#begin(command, request);
    if (!this.busy || this.#pipe === undefined || at !== this.#got) return SPLICE_DECLINED;
    const count = libc.splice(socket, 0, this.#pipe.write, 0, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count <= 0) return this.#stuck(count, socket, request);
    this.#got += count;
    if (count === length) this.#deliver(request);
    return count;
  }

  /** Forgets the reply in the pipe: its connection is lost. */
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

  /** Takes what is in the pipe into the request's block. */
  #readBack(request: FuseRequest): void {
    const buffer = this.#buffers.take(request.length);
    request.buffer = buffer;
    request.bufferAt = HEADROOM;
    const start = buffer.address + HEADROOM - OUT_HEADER;
    for (let at = 0; at < OUT_HEADER + this.#got; ) {
      const count = libc.read(this.#pipe?.read ?? -1, start + at, OUT_HEADER + this.#got - at);
      if (count <= 0) throw new Error(`reading a pipe of our own failed: ${errnoName(errno())}`);
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
    // As when writing to the device: who asked is gone, or the mount is.
    if (count < 0 && (error === ENOENT || error === ENODEV || error === EINVAL)) return;
    throw new Error(`splicing to /dev/fuse failed: ${errnoName(error)}`);
  }

  #close(): void {
    if (this.#pipe === undefined) return;
    closePipe(this.#pipe);
    this.#pipe = undefined;
  }
}

/** The splice pipes of a worker: made when a reply needs one, and kept. */
export class SplicePipes {
  readonly #buffers: BufferPool;
  readonly #pipes: SplicePipe[] = [];

  constructor(buffers: BufferPool) {
    this.#buffers = buffers;
  }

  /** As SplicePipe's, on the pipe that holds the command's reply, or a free one for its first byte. */
  move(socket: number, command: NbdCommand, request: FuseRequest, at: number, length: number): number {
    const pipe = this.#find(command) ?? (at === 0 ? this.#free() : undefined);
    if (pipe === undefined) return SPLICE_DECLINED;
    pipe.command = command;
    const count = pipe.move(socket, command, request, at, length);
    if (!pipe.busy) pipe.command = undefined;
    return count;
  }

  /** Drops the part of a command's reply that a pipe holds: its connection is lost. */
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
    for (const pipe of this.#pipes) if (pipe.command === undefined) return pipe;
    if (this.#pipes.length === MOST_PIPES) return undefined;
    const pipe = new SplicePipe(this.#buffers);
    this.#pipes.push(pipe);
    return pipe;
  }
}
