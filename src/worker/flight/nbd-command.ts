// One NBD command, waiting or in flight, and the table of all commands.
//
// A cookie is an index into the table and a generation, which changes with every use of the entry. So a stale or
// forged cookie finds nothing. Commands are reused, never freed.

import { NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../nbd/constants.js';
import type { Coverage } from '../../nbd/transmission/coverage.js';
import type { PendingRequest } from '../../nbd/transmission/reply.js';
import { assert } from '../memory/assert.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { addHi, addLo, highHalf, lowHalf, toBigInt } from '../memory/u64.js';
import type { FuseRequest } from './fuse-request.js';

export const COMMAND_FREE = 0;
/** No connection has it yet. */
export const COMMAND_TO_ISSUE = 1;
/** A connection has it; no byte is sent. */
export const COMMAND_QUEUED = 2;
/** At least one byte is sent; the reply is pending. */
export const COMMAND_SENT = 3;
/** Answered; kept until a FLUSH covers it. */
export const COMMAND_UNFLUSHED = 4;
/** Sent on a connection that was given up, and reissued as another command. Its reply only ends it. */
export const COMMAND_LOST = 5;

/** The connection of a command. */
export interface CommandCarrier {
  /** Number of the connection, as messages and the status show it. */
  readonly number: number;
}

/** Receives the reply of a command without a request. */
export interface ReplyWaiter {
  /** @param error the server's NBD_E* or 0 */
  answered(command: NbdCommand, error: number): void;
}

/** One command, with everything to send it, and to send it again. */
export class NbdCommand implements PendingRequest {
  readonly cookieLo: number;
  cookieHi = 0;
  type = 0;
  flags = 0;
  offsetHi = 0;
  offsetLo = 0;
  length = 0;
  covered = 0;
  coverage: Coverage | undefined = undefined;
  failure = 0;
  failureText = '';
  /** The request that waits for the reply. */
  request: FuseRequest | undefined = undefined;
  /**
   * Buffer of the payload: the data of a WRITE, or the destination of a READ. The command has a reference to it.
   * A READ without one uses the request's buffer, which is taken on demand.
   */
  buffer: PooledBuffer | undefined = undefined;
  /** Offset of the payload in `buffer`, headroom included. */
  bufferAt = HEADROOM;
  /** Whether the connection's socket shares pages of the buffer and the reply is pending. */
  shared = false;
  /** Number of the change that the command belongs to, in the order of their beginnings. A copy has the same. */
  change = 0;
  /** Offset in the connection's stream of the first byte of the request, and of the end of its payload. */
  sentFrom = 0;
  payloadEnd = 0;
  /** The sender's count of memory in the socket when the payload had left. */
  occupiedBefore = 0;
  /** Receiver of the reply of a command without a request: a READ of an identity check, a FLUSH of a replay. */
  waiter: ReplyWaiter | undefined = undefined;
  /** The next command in the same queue. */
  next: NbdCommand | undefined = undefined;
  /** Number among the unflushed commands; a FLUSH covers all up to its own number. */
  sequence = 0;
  /** Number of connections that the disk had received when it sent a FLUSH. */
  arrivals = 0;
  /** Number of changes sent before it; -1 for a FLUSH that was sent while one of them was unanswered. */
  changesBefore = 0;
  /** Bytes of memory that it occupies while unflushed. */
  cost = 0;
  /** Time of submission, in milliseconds of the worker's clock. */
  submittedAt = 0;
  /** Bytes moved between disk and server before the submission. */
  movedBefore = 0;
  /** Extents of `base:allocation` in the reply to a BLOCK_STATUS: lengths and flags alternate. */
  extents: number[] | undefined = undefined;
  #state = COMMAND_FREE;
  #connection: CommandCarrier | undefined = undefined;
  #isReplayed = false;

  constructor(index: number) {
    this.cookieLo = index;
  }

  /** One of COMMAND_*. */
  get state(): number {
    return this.#state;
  }

  /** The connection that has it, or had it when it was lost. */
  get connection(): CommandCarrier | undefined {
    return this.#connection;
  }

  /** Whether it is an unflushed command that is being sent again, as the server may have lost its effect. */
  get replayed(): boolean {
    return this.#isReplayed;
  }

  /** Makes a free command, or one that will be sent again, one that no connection has. It gets a new cookie. */
  begin(): void {
    this.cookieHi = (this.cookieHi + 1) >>> 0;
    this.#state = COMMAND_TO_ISSUE;
  }

  /** A connection gets it. */
  giveTo(connection: CommandCarrier): void {
    assert(this.#state === COMMAND_TO_ISSUE, 'a command is given to one connection at a time');
    this.#state = COMMAND_QUEUED;
    this.#connection = connection;
  }

  /** Its request is encoded, and leaves in this order. */
  send(): void {
    assert(this.#state === COMMAND_QUEUED, 'a command is sent once by the connection that has it');
    this.#state = COMMAND_SENT;
  }

  /** It is a copy in a replay from now on, until `keep`. */
  replay(): void {
    assert(this.#state === COMMAND_TO_ISSUE, 'a replay sends commands that no connection has');
    this.#isReplayed = true;
  }

  /** It is among the unflushed writes from now on, and belongs to no connection. */
  keep(): void {
    assert(this.#state === COMMAND_TO_ISSUE || this.#state === COMMAND_SENT, 'a write is kept once');
    this.#state = COMMAND_UNFLUSHED;
    this.#connection = undefined;
    this.#isReplayed = false;
  }

  /** Another command takes its place; only its reply matters. */
  lose(): void {
    assert(this.#state === COMMAND_SENT, 'a lost command was sent');
    this.#state = COMMAND_LOST;
    this.#isReplayed = false;
  }

  /** Its connection has answered it: it must not count as an orphan if the answer ends the connection. */
  leaveConnection(): void {
    this.#connection = undefined;
  }

  /** Nobody uses it. */
  free(): void {
    assert(this.#state !== COMMAND_FREE, 'a command ends once');
    this.#state = COMMAND_FREE;
    this.#isReplayed = false;
  }

  /** Sets the byte range. @param length below 2^32 for READ and WRITE */
  setPlace(offsetHi: number, offsetLo: number, length: number): void {
    this.offsetHi = offsetHi;
    this.offsetLo = offsetLo;
    this.length = length;
  }

  /** Sets the payload, which begins at byte `at` of the buffer, headroom included, and adds a reference. */
  setPayload(buffer: PooledBuffer | undefined, at: number): void {
    this.buffer = buffer;
    this.bufferAt = at;
    buffer?.retain();
  }

  /** Copies all that is sent, the payload and the request. */
  copyFrom(other: NbdCommand): void {
    this.type = other.type;
    this.flags = other.flags;
    this.setPlace(other.offsetHi, other.offsetLo, other.length);
    this.setPayload(other.buffer, other.bufferAt);
    this.request = other.request;
    this.change = other.change;
    this.submittedAt = other.submittedAt;
    this.movedBefore = other.movedBefore;
  }

  /** Reduces a command to the bytes [start, end) of its range. */
  cut(start: bigint, end: bigint): void {
    const from = Number(start - toBigInt(this.offsetHi, this.offsetLo));
    const length = Number(end - start);
    assert(from >= 0 && length > 0 && from + length <= this.length, 'a part of a command lies within it');
    if (this.buffer !== undefined) this.bufferAt += from;
    this.setPlace(highHalf(start), lowHalf(start), length);
  }

  /** Clears all that belongs to a reply. */
  clearReply(): void {
    this.covered = 0;
    this.coverage = undefined;
    this.failure = 0;
    this.failureText = '';
    this.extents = undefined;
    this.shared = false;
    this.#connection = undefined;
  }
}

/** Whether a command changes the disk. */
export function changesDisk(command: NbdCommand): boolean {
  return command.type === NBD_CMD_WRITE || command.type === NBD_CMD_WRITE_ZEROES;
}

/** A first-in first-out queue, linked through the commands. */
export class CommandQueue {
  #first: NbdCommand | undefined = undefined;
  #last: NbdCommand | undefined = undefined;

  get first(): NbdCommand | undefined {
    return this.#first;
  }

  push(command: NbdCommand): void {
    assert(command.next === undefined && command !== this.#last, 'a command is in one queue at a time');
    if (this.#last === undefined) this.#first = command;
    else this.#last.next = command;
    this.#last = command;
  }

  shift(): NbdCommand | undefined {
    const command = this.#first;
    if (command === undefined) return undefined;
    this.#first = command.next;
    if (this.#first === undefined) this.#last = undefined;
    command.next = undefined;
    return command;
  }
}

/** All commands of a worker. */
export class CommandTable {
  readonly #commands: NbdCommand[] = [];
  readonly #free: NbdCommand[] = [];

  /** Takes a command with a new cookie, otherwise in the initial state. */
  take(): NbdCommand {
    const command = this.#free.pop() ?? this.#make();
    assert(command.state === COMMAND_FREE, 'a command that is taken was free');
    command.begin();
    return command;
  }

  /** Prepares a command for being sent again, with a new cookie. */
  renew(command: NbdCommand): void {
    assert(command.state !== COMMAND_FREE, 'a command that is sent again is in use');
    command.clearReply();
    command.begin();
  }

  /** Shortens a command to its first `count` bytes. Returns a command for the rest. */
  split(command: NbdCommand, count: number): NbdCommand {
    assert(count > 0 && count < command.length, 'both parts of a split command have bytes');
    const rest = this.take();
    rest.copyFrom(command);
    const { offsetHi, offsetLo, length } = command;
    rest.setPlace(addHi(offsetHi, offsetLo, count), addLo(offsetLo, count), length - count);
    rest.bufferAt += count;
    command.length = count;
    return rest;
  }

  /** Takes a copy of `command` with a cookie of its own, reduced to the bytes [start, end). */
  part(command: NbdCommand, start: bigint, end: bigint): NbdCommand {
    const part = this.take();
    part.copyFrom(command);
    part.cut(start, end);
    return part;
  }

  /**
   * Takes a copy of `command`, whose connection was given up, with a cookie of its own. The copy takes over the
   * request. The original becomes COMMAND_LOST.
   */
  reissue(command: NbdCommand): NbdCommand {
    const other = this.take();
    other.copyFrom(command);
    other.sequence = command.sequence;
    other.cost = command.cost;
    if (command.replayed) other.replay();
    command.request = undefined;
    command.lose();
    return other;
  }

  /** Frees a command. The caller has released its buffer. */
  release(command: NbdCommand): void {
    command.free();
    command.clearReply();
    command.flags = 0;
    command.setPlace(0, 0, 0);
    command.request = undefined;
    command.buffer = undefined;
    command.bufferAt = HEADROOM;
    command.next = undefined;
    command.sequence = 0;
    command.change = 0;
    command.waiter = undefined;
    this.#free.push(command);
  }

  /** Finds the command of a reply on `connection`: in flight or lost, with this cookie. */
  find(cookieHi: number, cookieLo: number, connection: CommandCarrier | undefined): NbdCommand | undefined {
    const command = this.#commands[cookieLo];
    if (command === undefined || command.cookieHi !== cookieHi) return undefined;
    const isAwaited = command.state === COMMAND_SENT || command.state === COMMAND_LOST;
    return isAwaited && command.connection === connection ? command : undefined;
  }

  /** The commands queued, sent or lost on a connection. Slow; for the end of a connection. */
  ofConnection(connection: CommandCarrier): NbdCommand[] {
    return this.#commands.filter((command) => command.connection === connection);
  }

  /** All commands in use, unflushed ones included. */
  inUse(): NbdCommand[] {
    return this.#commands.filter((command) => command.state !== COMMAND_FREE);
  }

  #make(): NbdCommand {
    const command = new NbdCommand(this.#commands.length);
    this.#commands.push(command);
    return command;
  }
}
