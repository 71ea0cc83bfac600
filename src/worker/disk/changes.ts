// The life of a change (WRITE, WRITE_ZEROES) on a disk, until nothing can undo it. See docs/internals/invariants.md.
//
// 1. RangeOrder: overlapping requests are carried out one after the other, in the order of their arrival.
// 2. LostCopies: a change that was sent on a lost connection may still be carried out. Until that is excluded, no newer
//    overlapping change is sent.
// 3. UnflushedWrites: a change that the server has answered may be forgotten by a server that restarts. Its data stay
//    here until a FLUSH covers it.
//
// A Disk owns one of each.

import { type ByteRange, overlaps } from '../../nbd/byte-range.js';
import { NBD_CMD_WRITE } from '../../nbd/constants.js';
import { OverlapOrder } from '../../nbd/overlap-order.js';
import type { Peer } from '../connection/channel.js';
import {
  type FuseRequest,
  ORDER_HOLDS,
  ORDER_NONE,
  ORDER_WAITS,
  REQUEST_READ,
} from '../flight/fuse-request.js';
import type { CommandTable, NbdCommand } from '../flight/nbd-command.js';
import { assert, assertSlowly } from '../memory/assert.js';
import { type Place, toBigInt } from '../memory/u64.js';
import { newestBytes, type RangePart } from './newest-bytes.js';

/** Most rounding error of doubles up to 2^63, in bytes. */
const SLACK = 2048;

function overlap(a: FuseRequest, b: FuseRequest): boolean {
  return overlaps(a.rangeStart, a.rangeEnd, b.rangeStart, b.rangeEnd);
}

/** The usual result of `leave`, made once. */
const NONE: readonly FuseRequest[] = [];

/**
 * The order of overlapping requests (nbd/overlap-order.ts has the rule). A change keeps its range until all its
 * commands are resolved, even when its requester is gone. Overlapping requests wait: newer changes, and reads, so that
 * no program sees data that may be undone. Ranges are doubles, rounded outwards, so beyond 2^53 they are too large at
 * worst.
 */
export class RangeOrder {
  /** Called when the first change begins and when the last one ends. */
  announce: ((isChanging: boolean) => void) | undefined;
  readonly #order = new OverlapOrder<FuseRequest>();
  #isChanging = false;
  #changes = 0;

  /** Whether a change is in progress. */
  get isChanging(): boolean {
    return this.#isChanging;
  }

  /** Requests that wait for overlapping ones. */
  get waiting(): readonly FuseRequest[] {
    return this.#order.waiting;
  }

  /** Of the changes that waiting requests overlap, the oldest that has had its turn. */
  get oldestAwaited(): FuseRequest | undefined {
    const awaited = this.#order.started.filter((change) => this.waiting.some((one) => overlap(one, change)));
    return awaited.sort((a, b) => a.change - b.change).at(0);
  }

  /** Enters a change. False: it waits; a `leave` returns it when its turn comes. */
  enter(request: FuseRequest): boolean {
    assert(request.order === ORDER_NONE, 'a request enters the range order once');
    request.change = ++this.#changes;
    const mayStart = this.#order.enter(request);
    if (mayStart) this.#hold(request);
    else request.order = ORDER_WAITS;
    this.#look();
    return mayStart;
  }

  /** Whether a READ may go to the server. False: it waits for overlapping changes; a `leave` returns it. */
  enterRead(request: FuseRequest): boolean {
    if (this.#order.enter(request)) return true;
    request.order = ORDER_WAITS;
    return false;
  }

  /** Whether a request overlaps another one that is a change in progress. For assertions. */
  overlapsChange(request: FuseRequest): boolean {
    return this.#order.started.some((change) => change !== request && overlap(request, change));
  }

  /** Ends a request whose changes are resolved, apart from lost copies. Returns the requests whose turn has come. */
  leave(request: FuseRequest): readonly FuseRequest[] {
    if (request.order === ORDER_NONE) return NONE;
    assert(request.order === ORDER_HOLDS, 'a request does not leave the range order before its turn');
    request.order = ORDER_NONE;
    const granted = this.#order.leave(request);
    for (const one of granted)
      if (one.kind === REQUEST_READ) one.order = ORDER_NONE;
      else this.#hold(one);
    this.#look();
    return granted;
  }

  /** Fails all waiting requests with `errno` and returns them. */
  end(errno: number): readonly FuseRequest[] {
    const all = this.#order.takeWaiting();
    for (const one of all) {
      one.order = ORDER_NONE;
      one.fail(errno);
    }
    return all;
  }

  #hold(request: FuseRequest): void {
    assertSlowly(() => !this.overlapsChange(request), 'changes that hold ranges do not overlap');
    request.order = ORDER_HOLDS;
  }

  /** Announces the first change, and the end of the last one. */
  #look(): void {
    const isChanging = this.#order.started.length > 0;
    if (isChanging === this.#isChanging) return;
    this.#isChanging = isChanging;
    this.announce?.(isChanging);
  }
}

/** Sets the range of a request: bytes [start, end), rounded out to the disk's blocks. */
export function setRange(request: FuseRequest, start: number, end: number, minimum: number): void {
  const slack = end > Number.MAX_SAFE_INTEGER ? SLACK : 0;
  request.rangeStart = start - (start % minimum) - slack;
  request.rangeEnd = Math.ceil(end / minimum) * minimum + slack;
}

/** Milliseconds for which a newer change waits for proof before it fails. */
export const PROOF_PATIENCE = 30_000;

/** The byte range of a WRITE or WRITE_ZEROES. */
export interface ChangedBytes extends Place {
  readonly type: number;
}

/** The bytes of a place, exact for every offset. Not for the hot path. */
export function rangeOf({ offsetHi, offsetLo, length }: Place): ByteRange {
  const start = toBigInt(offsetHi, offsetLo);
  return { start, end: start + BigInt(length) };
}

/** The connection of a lost change. */
export interface SentOn {
  readonly peer: Peer | undefined;
  /** Whether replies may still come on it. */
  readonly closing: boolean;
  /** Its number among the connections of the disk. */
  readonly arrival: number;
}

/** A lost change: its bytes, and the time of the loss in milliseconds. */
export interface LostBytes extends ByteRange {
  readonly lostAt: number;
}

interface LostCopy extends ChangedBytes {
  readonly change: number;
  /** Byte range [start, end) on the disk. */
  readonly start: bigint;
  readonly end: bigint;
  readonly peer: Peer | undefined;
  readonly arrival: number;
  /** Time of the loss in milliseconds; of merged copies, the first. */
  lostAt: number;
  /** The command whose reply resolves it; undefined when the connection is closed. */
  command: NbdCommand | undefined;
  /** Time at which its connection closed. */
  closedAt: number;
}

/**
 * Changes sent on a lost connection, which the server may still carry out. The invariant: while a copy of a change is
 * unresolved, no newer overlapping change is sent. Its reply resolves a copy, or the end of the server's process, or
 * time if the user has set --settle-time. A closed connection proves nothing. The same change may be sent again: the
 * same bytes in the same place do no harm.
 */
export class LostCopies {
  readonly #settleTime: number;
  #copies: LostCopy[] = [];
  /** The server of the connections up to this number has ended. */
  #endedUpTo = 0;

  /** @param settleTime milliseconds after a connection closes until its requests are certainly done or dropped */
  constructor(settleTime: number) {
    this.#settleTime = settleTime;
  }

  get any(): boolean {
    return this.#copies.length > 0;
  }

  get count(): number {
    return this.#copies.length;
  }

  /** The unresolved changes. */
  get changes(): readonly ChangedBytes[] {
    return this.#copies;
  }

  /** Adds a change sent on a lost connection. */
  add(command: NbdCommand, { peer, closing, arrival }: SentOn, now: number): void {
    if (arrival <= this.#endedUpTo) return;
    const { type, offsetHi, offsetLo, length, change } = command;
    const isClosed = !closing;
    const copy: LostCopy = {
      type,
      offsetHi,
      offsetLo,
      length,
      change,
      ...rangeOf(command),
      peer: peer?.share(),
      arrival,
      lostAt: now,
      command: isClosed ? undefined : command,
      closedAt: isClosed ? now : Number.POSITIVE_INFINITY,
    };
    this.#copies.push(copy);
    if (isClosed) this.#merge(copy);
  }

  /** Whether a reply to the command resolves a copy. */
  awaits(command: NbdCommand): boolean {
    return this.#copies.some((copy) => copy.command === command);
  }

  /** Resolves the copy that a reply belongs to. */
  answered(command: NbdCommand): void {
    this.#drop((copy) => copy.command === command);
  }

  /** Records that the connection of a copy is closed: no reply can come. */
  closed(command: NbdCommand, now: number): void {
    for (const copy of this.#copies) {
      if (copy.command !== command) continue;
      copy.command = undefined;
      copy.closedAt = now;
      this.#merge(copy);
      return;
    }
  }

  /** Resolves all copies on the first `attached` connections, as their server has ended. */
  serverEnded(attached: number): void {
    this.#endedUpTo = Math.max(this.#endedUpTo, attached);
    this.#drop(({ arrival }) => arrival <= attached);
  }

  /** Resolves the copies of ended processes and those whose time is over. Returns whether there were any. */
  look(now: number): boolean {
    const ended = new Map<Peer, boolean>();
    const hasEnded = (peer: Peer): boolean => {
      const known = ended.get(peer) ?? peer.ended;
      ended.set(peer, known);
      return known;
    };
    return this.#drop(
      ({ command, peer, closedAt }) =>
        (peer !== undefined && hasEnded(peer)) ||
        (command === undefined && now - closedAt >= this.#settleTime),
    );
  }

  /** Of the changes older than number `change` that overlap the bytes [start, end), the first that was lost. */
  overlapping(start: bigint, end: bigint, change: number): LostBytes | undefined {
    let first: LostCopy | undefined;
    for (const copy of this.#copies) {
      if (copy.change >= change || copy.start >= end || start >= copy.end) continue;
      if (first === undefined || copy.lostAt < first.lostAt) first = copy;
    }
    return first;
  }

  /** Drops all copies, at the end. */
  clear(): void {
    this.#drop(() => true);
  }

  /** Merges the copies of one change that one process has and that get no reply. */
  #merge(one: LostCopy): void {
    this.#drop((copy) => {
      const isSame =
        copy.change === one.change &&
        copy.start === one.start &&
        copy.end === one.end &&
        copy.peer === one.peer;
      if (copy === one || copy.command !== undefined || !isSame) return false;
      one.lostAt = Math.min(one.lostAt, copy.lostAt);
      return true;
    });
  }

  #drop(isOver: (copy: LostCopy) => boolean): boolean {
    const before = this.#copies.length;
    if (before === 0) return false;
    this.#copies = this.#copies.filter((copy) => {
      const over = isOver(copy);
      if (over) copy.peer?.release();
      return !over;
    });
    return this.#copies.length < before;
  }
}

/** Estimated size of a command without data, in bytes. */
const COMMAND_COST = 512;

/** Frees the memory of commands. */
export interface CommandOwner {
  /** Releases a command and its buffer. */
  retire(command: NbdCommand): void;
  /** Releases the buffer of a command. */
  releaseBuffer(command: NbdCommand): void;
}

/** Whether the data of an unflushed write were dropped. */
function isDropped({ type, buffer }: NbdCommand): boolean {
  return type === NBD_CMD_WRITE && buffer === undefined;
}

/**
 * Unflushed writes: answered by the server, not covered by a FLUSH, so the server may lose them. A write stays here
 * with its data from its reply until a FLUSH sent later succeeds. After a loss of the server, a replay sends all of
 * them again. With limit 0 none are kept: the server has no FLUSH, so it promises nothing.
 */
export class UnflushedWrites {
  /** Bytes of memory at which a FLUSH is due. */
  readonly limit: number;
  /** Bytes of memory in use. */
  bytes = 0;
  readonly #owner: CommandOwner;
  #writes: NbdCommand[] = [];
  #head = 0;
  #sequence = 0;
  /** Number of the last write that was dropped before a FLUSH covered it; 0: none. */
  #dropped = 0;

  constructor(limit: number, owner: CommandOwner) {
    this.limit = limit;
    this.#owner = owner;
  }

  /** Whether there are none. */
  get empty(): boolean {
    return this.#head === this.#writes.length;
  }

  /** Whether a write was dropped that no FLUSH has covered. A restarted server may have lost it. */
  get incomplete(): boolean {
    return this.#dropped > 0;
  }

  /** The number of the last write that a FLUSH sent now covers. */
  get mark(): number {
    return this.#sequence;
  }

  /**
   * Adds an answered write. Beyond twice the limit its data are dropped: it stays in the list without them, so that a
   * replay sends no older bytes to its range. Beyond three times the limit all writes are dropped.
   */
  keep(command: NbdCommand): void {
    if (this.limit === 0) {
      this.#owner.retire(command);
      return;
    }
    if (command.buffer !== undefined && this.bytes + this.#cost(command) > 2 * this.limit) {
      this.#owner.releaseBuffer(command);
      this.#dropped = this.#sequence + 1;
    }
    command.keep();
    command.request = undefined;
    command.sequence = ++this.#sequence;
    command.cost = this.#cost(command);
    this.bytes += command.cost;
    this.#writes.push(command);
    if (this.bytes > 3 * this.limit) this.#retireAll();
  }

  /**
   * Cuts each write to the bytes that no later write has changed, so that no two overlap and a replay sends only the
   * newest bytes. Removes the writes whose data were dropped. No FLUSH may be in flight.
   */
  keepNewest(commands: Pick<CommandTable, 'part'>): void {
    const writes = this.list();
    const parts: RangePart[][] = writes.map(() => []);
    for (const part of newestBytes(writes.map(rangeOf))) parts[part.index].push(part);
    this.#writes = [];
    this.#head = 0;
    writes.forEach((command, index) => {
      const [first, ...others] = parts[index];
      if (first === undefined || isDropped(command)) {
        this.bytes -= command.cost;
        this.#owner.retire(command);
        return;
      }
      const copies = others.map(({ start, end }) => commands.part(command, start, end));
      command.cut(first.start, first.end);
      this.#writes.push(command, ...copies);
      for (const copy of copies) {
        copy.keep();
        copy.cost = COMMAND_COST;
        this.bytes += COMMAND_COST;
      }
    });
    // A FLUSH after a part of the replay must cover no command that was not sent.
    for (const command of this.#writes) command.sequence = ++this.#sequence;
  }

  #retireAll(): void {
    this.#dropped = this.#sequence;
    for (const command of this.list()) this.#owner.retire(command);
    this.#writes = [];
    this.#head = 0;
    this.bytes = 0;
  }

  /** Removes the writes that a FLUSH sent at `mark` has covered. */
  forget(mark: number): void {
    if (this.#dropped <= mark) this.#dropped = 0;
    while (this.#head < this.#writes.length && this.#writes[this.#head].sequence <= mark) {
      const command = this.#writes[this.#head++];
      this.bytes -= command.cost;
      this.#owner.retire(command);
    }
    assert(
      this.bytes >= 0 && (this.bytes === 0 || !this.empty),
      'bytes of unflushed writes are those of a write',
    );
    if (this.#head < 1024 && this.#head < this.#writes.length) return;
    this.#writes = this.#writes.slice(this.#head);
    this.#head = 0;
  }

  /** Replaces a command by its copy. */
  replace(command: NbdCommand, other: NbdCommand): void {
    const at = this.#writes.indexOf(command, this.#head);
    if (at >= 0) this.#writes[at] = other;
  }

  /** Records that the user knows of the dropped writes. */
  admitLoss(): void {
    this.#dropped = 0;
  }

  /** The commands, oldest first; those whose data were dropped have no buffer. */
  list(): readonly NbdCommand[] {
    return this.#writes.slice(this.#head);
  }

  /** Bytes of memory for a command: its whole buffer, unless it shares one. */
  #cost(command: NbdCommand): number {
    if (command.buffer === undefined) return COMMAND_COST;
    return command.buffer.references > 2 ? command.length : command.buffer.capacity;
  }
}
