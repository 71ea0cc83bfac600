// One NBD command, waiting or in flight, and the table of all of them.
//
// A command's cookie is its place in the table and a generation that moves on whenever the place is
// used again: a stale or invented cookie finds nothing. Commands are reused, never freed.

import { NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../nbd/constants.js';
import type { Coverage } from '../../nbd/transmission/coverage.js';
import type { PendingRequest } from '../../nbd/transmission/reply.js';
import { assert } from '../memory/assert.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { addHi, addLo } from '../memory/u64.js';
import type { FuseRequest } from './fuse-request.js';

export const COMMAND_FREE = 0;
/** Not given to a connection yet. */
export const COMMAND_TO_ISSUE = 1;
/** Given to a connection, of which not a byte has been sent. */
export const COMMAND_QUEUED = 2;
/** At least its first byte is sent; the reply is awaited. */
export const COMMAND_SENT = 3;
/** Answered, but remembered until a FLUSH covers it. */
export const COMMAND_UNFLUSHED = 4;
/** Sent on a connection that was given up, and asked for again by another command: its reply decides nothing but its end. */
export const COMMAND_LOST = 5;

/** What carries commands to the server: a Connection. */
export interface CommandCarrier {
  /** The connection's number, for users. */
  readonly number: number;
}

/** Receives the reply of a command that belongs to no request. */
export interface ReplyWaiter {
  /** @param error the server's NBD_E* or 0 */
  answered(command: NbdCommand, error: number): void;
}

/** Everything that is needed to send a command, and to send it again. */
export class NbdCommand implements PendingRequest {
  readonly cookieLo: number;
  cookieHi = 0;
  state = COMMAND_FREE;
  type = 0;
  flags = 0;
  offsetHi = 0;
  offsetLo = 0;
  length = 0;
  covered = 0;
  coverage: Coverage | undefined = undefined;
  failure = 0;
  failureText = '';
  /** The request that waits for it. */
  request: FuseRequest | undefined = undefined;
  /**
   * Memory of its payload, with a reference of its own: what a WRITE sends, where a READ's bytes go.
   * A READ without one uses its request's, which is taken when it turns out to be needed.
   */
  buffer: PooledBuffer | undefined = undefined;
  /** Byte of `block` (headroom included) at which the payload begins. */
  bufferAt = HEADROOM;
  connection: CommandCarrier | undefined = undefined;
  /** Whether pages of its block were lent to the connection's socket, and the reply is awaited. */
  shared = false;
  /** Number of the change that it is a part of, in the order in which changes began; copies have the same. */
  change = 0;
  /** Byte of its connection's stream with which its request begins; where that has a payload, with which it ends. */
  sentFrom = 0;
  payloadEnd = 0;
  /** How many requests its connection had been given when this one was put into the stream. */
  requestNumber = 0;
  /** Set on a command of our own without a request: the READs of an identity check, the FLUSHes of a replay. */
  waiter: ReplyWaiter | undefined = undefined;
  /** The next one in whatever queue it is in. */
  next: NbdCommand | undefined = undefined;
  /** Order in which commands were remembered: a FLUSH covers those up to its own number. */
  sequence = 0;
  /** How many connections the disk had been given when a FLUSH was sent. */
  arrivals = 0;
  /** How many changes the disk had been sent when it was sent; -1 for a FLUSH before which not all were over. */
  changesBefore = 0;
  /** Bytes of memory that it holds while it is remembered. */
  cost = 0;
  /** Whether a remembered one is being sent again, since its effect may have been lost. */
  replayed = false;
  /** Milliseconds of the worker's clock at which it came to be. */
  submittedAt = 0;
  /** Bytes that had been moved between its disk and the server by then. */
  movedBefore = 0;
  /** Extents of `base:allocation` that answer a BLOCK_STATUS: lengths and flags by turns. */
  extents: number[] | undefined = undefined;

  constructor(index: number) {
    this.cookieLo = index;
  }

  /** Sets which bytes of the disk the command is about. @param length below 2^32 for READ and WRITE */
  setPlace(offsetHi: number, offsetLo: number, length: number): void {
    this.offsetHi = offsetHi;
    this.offsetLo = offsetLo;
    this.length = length;
  }

  /** Takes a reference to the buffer of its payload, which begins at byte `at`, headroom included. */
  setPayload(buffer: PooledBuffer | undefined, at: number): void {
    this.buffer = buffer;
    this.bufferAt = at;
    if (buffer !== undefined) buffer.references++;
  }

  /** Copies what the command asks for and for whom, payload included. */
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

  /** Clears what a reply has brought. */
  clearReply(): void {
    this.covered = 0;
    this.coverage = undefined;
    this.failure = 0;
    this.failureText = '';
    this.extents = undefined;
    this.shared = false;
    this.connection = undefined;
  }
}

/** Whether a command's kind changes the disk, so that its reply is worth remembering. */
export function changesDisk(command: NbdCommand): boolean {
  return command.type === NBD_CMD_WRITE || command.type === NBD_CMD_WRITE_ZEROES;
}

/** A first-in first-out queue of commands, linked through the commands themselves. */
export class CommandQueue {
  #first: NbdCommand | undefined = undefined;
  #last: NbdCommand | undefined = undefined;

  get first(): NbdCommand | undefined {
    return this.#first;
  }

  push(command: NbdCommand): void {
    command.next = undefined;
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

  /** A command with a fresh cookie, all other fields as in a new one. */
  take(): NbdCommand {
    const command = this.#free.pop() ?? this.#make();
    command.cookieHi = (command.cookieHi + 1) >>> 0;
    command.state = COMMAND_TO_ISSUE;
    return command;
  }

  /** Makes a command ready to be sent again, under a fresh cookie. */
  renew(command: NbdCommand): void {
    assert(command.state !== COMMAND_FREE, 'a command that is sent again is in use');
    command.clearReply();
    command.cookieHi = (command.cookieHi + 1) >>> 0;
    command.state = COMMAND_TO_ISSUE;
  }

  /** Shortens a command to its first `count` bytes. Returns another command for the rest. */
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

  /**
   * Another command that asks for the same, with a cookie of its own and in the place of `command`, whose connection
   * was given up. No request waits for the old one any more.
   */
  reissue(command: NbdCommand): NbdCommand {
    const other = this.take();
    other.copyFrom(command);
    other.sequence = command.sequence;
    other.cost = command.cost;
    other.replayed = command.replayed;
    command.request = undefined;
    command.replayed = false;
    command.state = COMMAND_LOST;
    return other;
  }

  /** Ends a command's life. The caller has released its buffer. */
  release(command: NbdCommand): void {
    assert(command.state !== COMMAND_FREE, 'a command ends once');
    command.clearReply();
    command.state = COMMAND_FREE;
    command.flags = 0;
    command.setPlace(0, 0, 0);
    command.request = undefined;
    command.buffer = undefined;
    command.bufferAt = HEADROOM;
    command.next = undefined;
    command.sequence = 0;
    command.change = 0;
    command.waiter = undefined;
    command.replayed = false;
    this.#free.push(command);
  }

  /** The command with this cookie that `connection` may be answered: one in flight, or lost and not forgotten. */
  find(cookieHi: number, cookieLo: number, connection: CommandCarrier | undefined): NbdCommand | undefined {
    const command = this.#commands[cookieLo];
    if (command === undefined || command.cookieHi !== cookieHi) return undefined;
    const isAwaited = command.state === COMMAND_SENT || command.state === COMMAND_LOST;
    return isAwaited && command.connection === connection ? command : undefined;
  }

  /** The commands queued, sent or lost on one connection; for the rare moment in which it ends. */
  ofConnection(connection: CommandCarrier): NbdCommand[] {
    return this.#commands.filter((command) => command.connection === connection);
  }

  /** All commands in use, remembered ones among them. */
  inUse(): NbdCommand[] {
    return this.#commands.filter((command) => command.state !== COMMAND_FREE);
  }

  #make(): NbdCommand {
    const command = new NbdCommand(this.#commands.length);
    this.#commands.push(command);
    return command;
  }
}
