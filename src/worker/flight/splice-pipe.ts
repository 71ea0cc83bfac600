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
import { type Blocks, HEADROOM } from '../memory/buffer-pool.js';
import type { Operation } from './fuse-request.js';
import type { Command } from './nbd-command.js';

/** Bytes of pipe to ask for; 1 MiB is what a normal user gets. */
const PIPE_SIZES = [2 * 1024 * 1024, 1024 * 1024];

/** The socket has no more for now. */
export const SPLICE_EMPTY = 0;
/** The payload must be received by other means. */
export const SPLICE_DECLINED = -1;
/** The server has closed the connection. */
export const SPLICE_END = -2;

/** Replies that come over different connections at once each take a lane; beyond that, they go through memory. */
const MOST_LANES = 4;

/** One pipe, and the reply in it. */
export class SpliceLane {
  /** Whether a reply has begun that is not delivered yet. */
  busy = false;
  readonly #blocks: Blocks;
  readonly #header = new DataView(new ArrayBuffer(OUT_HEADER));
  readonly #headerAddress = addressOf(this.#header);
  #pipe: Pipe | undefined;
  #got = 0;

  constructor(blocks: Blocks) {
    this.#blocks = blocks;
  }

  /**
   * Moves up to `length` bytes, from byte `at` of the whole reply of `command` on, from `socket` into
   * the pipe, and the reply to the device when it is whole. Returns how many, or a SPLICE_*.
   */
  move(socket: number, command: Command, operation: Operation, at: number, length: number): number {
    if (!this.busy) this.#begin(command, operation);
    if (!this.busy || this.#pipe === undefined || at !== this.#got) return SPLICE_DECLINED;
    const count = libc.splice(socket, 0, this.#pipe.write, 0, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count <= 0) return this.#stuck(count, socket, operation);
    this.#got += count;
    if (count === length) this.#deliver(operation);
    return count;
  }

  /** Forgets the reply in the pipe: its connection is lost. */
  abandon(): void {
    this.busy = false;
    this.#close();
  }

  #begin(command: Command, operation: Operation): void {
    this.#pipe ??= widePipe(PIPE_SIZES);
    if (this.#pipe === undefined) return;
    writeOutHeader(this.#header, 0, OUT_HEADER + command.length, 0, operation.uniqueLo, operation.uniqueHi);
    if (libc.write(this.#pipe.write, this.#headerAddress, OUT_HEADER) !== OUT_HEADER) return;
    this.busy = true;
    this.#got = 0;
  }

  #stuck(count: number, socket: number, operation: Operation): number {
    if (count === 0) return SPLICE_END;
    const error = errno();
    if (error === EINTR) return SPLICE_EMPTY;
    if (error === EAGAIN && libc.recv(socket, this.#headerAddress, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
      return SPLICE_EMPTY;
    this.#readBack(operation);
    return SPLICE_DECLINED;
  }

  /** Takes what is in the pipe into the operation's block. */
  #readBack(operation: Operation): void {
    const block = this.#blocks.take(operation.length);
    operation.block = block;
    operation.blockAt = HEADROOM;
    const start = block.address + HEADROOM - OUT_HEADER;
    for (let at = 0; at < OUT_HEADER + this.#got; ) {
      const count = libc.read(this.#pipe?.read ?? -1, start + at, OUT_HEADER + this.#got - at);
      if (count <= 0) throw new Error(`reading a pipe of our own failed: ${errnoName(errno())}`);
      at += count;
    }
    this.busy = false;
  }

  #deliver(operation: Operation): void {
    this.busy = false;
    operation.answered = true;
    const whole = OUT_HEADER + this.#got;
    const count = libc.splice(
      this.#pipe?.read ?? -1,
      0,
      operation.descriptor,
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

/** The lanes of a worker: made when they are needed, and kept. */
export class SpliceLanes {
  readonly #blocks: Blocks;
  readonly #idle: SpliceLane[] = [];
  #made = 0;

  constructor(blocks: Blocks) {
    this.#blocks = blocks;
  }

  /** As SpliceLane's, on the lane that the command has, or gets for its first byte. */
  move(socket: number, command: Command, operation: Operation, at: number, length: number): number {
    if (at === 0) command.lane ??= this.#take();
    const { lane } = command;
    if (lane === undefined) return SPLICE_DECLINED;
    const count = lane.move(socket, command, operation, at, length);
    if (!lane.busy) this.#give(command, lane);
    return count;
  }

  /** Forgets what has come of a command's reply. */
  abandon(command: Command): void {
    const { lane } = command;
    if (lane === undefined) return;
    lane.abandon();
    this.#give(command, lane);
  }

  #take(): SpliceLane | undefined {
    const idle = this.#idle.pop();
    if (idle !== undefined || this.#made === MOST_LANES) return idle;
    this.#made++;
    return new SpliceLane(this.#blocks);
  }

  #give(command: Command, lane: SpliceLane): void {
    command.lane = undefined;
    this.#idle.push(lane);
  }
}
