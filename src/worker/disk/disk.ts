// One export in the worker: its connections, the commands that wait for one, and what was lost.
//
// Used by the data requests, which hand commands over with `submit` and hear of each through
// `Requests.commandDone`. Never blocks. A lost connection's commands wait for another one, which the
// Recovery says may be used. While the disk is `failing`, nothing waits: every command ends with that
// errno until a connection is attached.

import type { Node } from '../../fuse/tree.js';
import { EINTR } from '../../linux/errno.js';
import { type Blocks, blocksOf, payloadPiece } from '../../nbd/block-rules.js';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE } from '../../nbd/constants.js';
import { errnoFromNbd } from '../../nbd/errors.js';
import { type ExportInfo, effectiveBlockSizes, payloadLimit } from '../../nbd/export-info.js';
import { payloadAfterRefusal } from '../../nbd/request-lengths.js';
import type { Channel } from '../connection/channel.js';
import { Connection, type ConnectionOwner } from '../connection/connection.js';
import type { Device } from '../device/device.js';
import { type FuseRequest, REQUEST_READ, type RequestTarget } from '../flight/fuse-request.js';
import {
  COMMAND_LOST,
  COMMAND_QUEUED,
  COMMAND_UNFLUSHED,
  CommandQueue,
  type CommandTable,
  changesDisk,
  type NbdCommand,
} from '../flight/nbd-command.js';
import type { SplicePipes } from '../flight/splice-pipe.js';
import { assert } from '../memory/assert.js';
import type { BufferPool } from '../memory/buffer-pool.js';
import type { Ranges } from '../memory/ranges.js';
import { distance, highHalf, lowHalf, toBigInt } from '../memory/u64.js';
import { COUNTER, moved } from '../stats/counters.js';
import { FlushPace } from '../stats/flush-pace.js';
import { Latency } from '../stats/latency.js';
import { type Capabilities, capabilitiesOf } from './capabilities.js';
import { ExtentMap } from './extent-map.js';
import { Identity } from './identity.js';
import { type ChangedBytes, LostCopies, overlaps, PROOF_PATIENCE } from './lost-copies.js';
import { PendingLseeks } from './pending-lseeks.js';
import { RangeOrder } from './range-order.js';
import { type RecoveredDisk, Recovery } from './recovery.js';
import { DiskReplySink } from './reply-sink.js';
import { UnflushedWrites } from './unflushed-writes.js';

/** Events of a disk that others act on. */
export interface DiskEvents {
  /** A connection is lost: it takes no more commands, and its commands wait for another one. */
  connectionLost(disk: Disk, connection: Connection, why: string, breach: boolean): void;
  /** A connection that was lost and still read is closed. */
  connectionClosed(connection: Connection): void;
  /** A new connection leads to the same disk as before. */
  connectionAccepted(disk: Disk, connection: Connection): void;
  /** One line for the user. */
  warn(disk: Disk, text: string): void;
}

/** What a disk needs of the engine that it runs in. */
export interface DiskContext {
  readonly events: DiskEvents;
  readonly commands: CommandTable;
  readonly buffers: BufferPool;
  readonly device: Device;
  readonly splicePipes: SplicePipes;
  /** Bytes of writes to remember until a FLUSH covers them; 0 for none. */
  readonly keepBytes: number;
  /** Bytes that one command's payload can have here. */
  readonly largestPayload: number;
  /** Whether what block status told may be believed later, too (nobody else writes to the export). */
  readonly keepExtents: boolean;
  /** Errno by which an application hears that something acknowledged was lost. */
  readonly lossErrno: number;
  /** Milliseconds: see LostCopies. */
  readonly settleTime: number;
  /** Milliseconds, at the beginning of this turn of the loop. */
  now(): number;
  /** A command is over: `errno` is 0 or what its request fails with. */
  commandDone(disk: Disk, command: NbdCommand, errno: number): void;
  /** Asks for the bytes of a command that the server found too long again, in pieces. */
  resubmit(command: NbdCommand, disk: Disk): void;
  /** Gives a command and its memory back. */
  retire(command: NbdCommand): void;
  /** Takes from a lost READ, FLUSH or BLOCK_STATUS the memory that its successor uses. */
  releaseBuffer(command: NbdCommand): void;
  /** One thing less that a request waits for. */
  settle(request: FuseRequest): void;
  /** The server has refused a command. */
  serverError(disk: Disk, command: NbdCommand, errno: number, text: string): void;
  /** Asks the server for a block by which the disk can be told from another. */
  sampleIdentity(disk: Disk): void;
  flushInTheBackground(disk: Disk): void;
}

/** See the file's head. */
export class Disk implements RequestTarget, ConnectionOwner, RecoveredDisk {
  readonly index: number;
  readonly node: Node;
  readonly info: ExportInfo;
  readonly sizeHi: number;
  readonly sizeLo: number;
  readonly blocks: Blocks;
  /** Bytes: as in `blocks`. */
  readonly minimum: number;
  /** Bytes: as in `blocks`. */
  readonly tail: number;
  /** Bytes of payload of one command at most: a multiple of `minimum`. */
  maximum: number;
  readonly can: Capabilities;
  readonly unflushed: UnflushedWrites;
  readonly context: DiskContext;
  /** See COUNTER. */
  readonly counters: Float64Array;
  /** Changes on lost connections that the server may still make. */
  readonly lost: LostCopies;
  /** Order among changes. */
  readonly order: RangeOrder;
  /** Changes that wait for proof of what became of lost ones. */
  #unproven: NbdCommand[] = [];
  /** What is known of holes and data. */
  readonly extents: ExtentMap;
  /** Whether its server is far. */
  readonly latency = new Latency();
  /** 0, or the errno with which everything ends that would have to wait for a connection. */
  failing = 0;
  /** Whether something was written since the last FLUSH was sent. */
  dirty = false;
  #opens = 0;
  #writers = 0;
  #hasLookedForHoles = false;
  #isScanned = false;
  readonly pendingLseeks = new PendingLseeks();
  /** How it is told from another disk. */
  readonly identity: Identity;
  /** Errno that the next fsync tells once: something acknowledged may be lost. */
  lossError = 0;
  /** How the last FLUSH of our own has ended. */
  flushError = 0;
  readonly #waiting = new CommandQueue();
  #connections: Connection[] = [];
  #closing: Connection[] = [];
  /** Whether the server was asked for a block by which the disk is known. */
  #looked = false;
  /** Whether a FLUSH has covered every change that was ever sent, so that what is read is stable. */
  #isClean = true;
  /** Whether something became of a change since then that nobody knows for certain. */
  #isTainted = false;
  /** Changes that were sent. */
  #sent = 0;
  /** Whether the line about writes that fail for want of proof was said, since nothing was lost. */
  #saidUnproven = false;
  readonly #recovery = new Recovery(this);
  readonly #pace: FlushPace;
  #refused: Ranges | undefined;

  constructor(index: number, node: Node, info: ExportInfo, context: DiskContext, counters: Float64Array) {
    this.index = index;
    this.node = node;
    this.info = info;
    this.context = context;
    this.counters = counters;
    this.sizeHi = highHalf(info.size);
    this.sizeLo = lowHalf(info.size);
    this.blocks = blocksOf(info);
    this.minimum = this.blocks.minimum;
    this.tail = this.blocks.tail;
    const sizes = effectiveBlockSizes(info);
    this.maximum = payloadLimit({ ...sizes, maximum: Math.min(sizes.maximum, context.largestPayload) });
    this.extents = new ExtentMap(context.keepExtents);
    this.lost = new LostCopies(context.settleTime);
    this.order = new RangeOrder();
    this.identity = new Identity(this.minimum, context.keepBytes > 0);
    this.can = capabilitiesOf(info);
    this.unflushed = new UnflushedWrites(this.can.flush ? context.keepBytes : 0, (command) =>
      context.retire(command),
    );
    // While a FLUSH is under way, as much again may be written.
    this.#pace = new FlushPace(this.unflushed.limit / 2);
  }

  /** Open handles of the file. */
  get opens(): number {
    return this.#opens;
  }

  /** Handles that may write. Only while there are some can the kernel hold unsent writes. */
  get writers(): number {
    return this.#writers;
  }

  /** A handle was opened. */
  opened(writes: boolean): void {
    this.#opens++;
    if (writes) this.#writers++;
  }

  /** A handle was closed. */
  closed(writes: boolean): void {
    // A file may have been opened while it had another disk.
    if (this.#opens > 0) this.#opens--;
    if (writes && this.#writers > 0) this.#writers--;
  }

  /** Whether `st_blocks` counts the holes at the beginning of the disk. */
  get hasLookedForHoles(): boolean {
    return this.#hasLookedForHoles;
  }

  /** Whether the search for holes has ended. */
  get isScanned(): boolean {
    return this.#isScanned;
  }

  /** The search for holes has found so many bytes of them so far. */
  foundHoles(bytes: bigint): void {
    this.node.blocks = (this.info.size - bytes + 511n) / 512n;
    this.#hasLookedForHoles = true;
  }

  endedScan(): void {
    this.#isScanned = true;
  }

  /** Bytes of `size` at (hi, lo) that lie on the disk. */
  clip(hi: number, lo: number, size: number): number {
    return Math.max(0, Math.min(size, distance(this.sizeHi, this.sizeLo, hi, lo)));
  }

  /** Bytes of a command's place that one command may carry, from its beginning on. */
  pieceOf({ type, offsetHi, offsetLo, length }: NbdCommand): number {
    if (type !== NBD_CMD_READ && type !== NBD_CMD_WRITE) return length;
    return payloadPiece(
      length,
      distance(this.sizeHi, this.sizeLo, offsetHi, offsetLo),
      this.maximum,
      this.tail,
    );
  }

  /** The connections that are alive. */
  get connections(): readonly Connection[] {
    return this.#connections;
  }

  /** Those that were given up, and are read until every change that was sent on them is answered. */
  get closing(): readonly Connection[] {
    return this.#closing;
  }

  /** Whether commands have to wait, since no connection may be used. */
  get waiting(): boolean {
    return this.#recovery.ready.length === 0;
  }

  /** Sends a command, or lets it wait for a connection. Its end comes through `commandDone`. */
  submit(command: NbdCommand): void {
    if (this.waiting) {
      if (this.failing !== 0) this.#giveUp(command);
      else this.#waiting.push(command);
    } else if (this.lost.any && this.#lostSince(command) !== undefined) this.#unproven.push(command);
    else this.assign(command, this.#leastLoaded());
  }

  /** Puts a command into one connection's queue. */
  assign(command: NbdCommand, connection: Connection): void {
    command.state = COMMAND_QUEUED;
    command.connection = connection;
    command.changesBefore = this.#sent;
    if (command.type === NBD_CMD_FLUSH) {
      command.sequence = this.unflushed.mark;
      command.arrivals = this.#recovery.arrivals;
      if (this.order.isChanging) command.changesBefore = -1;
      this.dirty = false;
    } else if (changesDisk(command)) {
      this.#assertOrder(command);
      this.dirty = true;
      this.#isClean = false;
      this.#sent++;
      this.extents.wrote(command);
      this.identity.changed(command.offsetHi, command.offsetLo, command.length);
    } else if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.asked(this.changesUnderWay());
    if (connection.inFlight === 0) connection.lastProgress = this.context.now();
    connection.enqueue(command);
  }

  /** Adds a connection in its transmission phase; what waited goes out. @param arrival its number among the file's */
  attach(channel: Channel, number: number, info: ExportInfo, arrival = 0): Connection {
    const sink = new DiskReplySink(this);
    const connection = new Connection(channel, number, info, sink, this);
    connection.arrival = arrival;
    sink.connection = connection;
    this.#connections.push(connection);
    this.#recovery.arrived(connection);
    this.continueWaiting();
    return connection;
  }

  /** A new connection leads to the same disk as ever, as far as can be told: what waits will be sent. */
  accepted(connection: Connection): void {
    this.failing = 0;
    this.context.events.connectionAccepted(this, connection);
  }

  /** The data of a READ have come, and lie at byte `at` of `bytes`. */
  saw(command: NbdCommand, bytes: Uint8Array, at: number): void {
    // It may have been answered before a change that was made meanwhile.
    const { offsetHi, offsetLo, length, changesBefore } = command;
    const isOld = changesBefore !== this.#sent;
    if (isOld || this.isUncertain(offsetHi, offsetLo, length)) this.identity.wanted = false;
    else this.identity.saw(command, bytes, at, false);
  }

  /** From now on nothing waits for a connection: `errno` for all that does and will. */
  fail(errno: number): void {
    // One may have been accepted meanwhile.
    if (!this.waiting) return;
    this.failing = errno;
    for (const command of this.#unproven.splice(0)) this.#giveUp(command);
    for (let command = this.#waiting.shift(); command !== undefined; command = this.#waiting.shift()) {
      this.#giveUp(command);
    }
  }

  /** Leaves the server; all that waits and will come fails with `errno`, and what was to be written is noted. */
  failAll(errno: number, refused: Ranges): void {
    this.#refused = refused;
    this.failing = errno;
    for (const connection of [...this.#connections, ...this.#closing]) connection.abort();
    this.lost.clear();
    const waited = this.order.end(errno);
    for (const { kind, offsetHi, offsetLo, length } of waited)
      if (kind !== REQUEST_READ && length > 0) refused.add(toBigInt(offsetHi, offsetLo), length);
    this.#settleAll(waited);
    this.fail(errno);
  }

  /** How many requests wait for others of the same bytes to end, or for proof that lost ones have. */
  get waitingForOthers(): number {
    return this.order.waiting.length + this.#unproven.length;
  }

  /** Whether anything waits for proof of what became of a lost change. */
  get awaitsProof(): boolean {
    return this.#unproven.length > 0;
  }

  /** Looks for proof of what became of lost changes; what waited for that goes on. To be called while `lost.any`. */
  lookAtLost(now: number): void {
    this.lost.look(now);
    for (const connection of [...this.#closing])
      if (!this.#awaitsChange(connection)) this.#finish(connection);
    this.#lostResolved();
  }

  /** The server that the first `attached` connections led to has ended, with all that it had been sent. */
  serverEnded(attached: number): void {
    this.lost.serverEnded(attached);
    this.#lostResolved();
  }

  get buffers(): BufferPool {
    return this.context.buffers;
  }

  moved(received: number, sent: number): void {
    this.counters[COUNTER.socketIn] += received;
    this.counters[COUNTER.socketOut] += sent;
  }

  get lastProgress(): number {
    return Math.max(...this.#connections.map(({ lastProgress }) => lastProgress));
  }

  leaveOrder(request: FuseRequest): readonly FuseRequest[] {
    return this.order.leave(request);
  }

  flushInTheBackground(): void {
    this.context.flushInTheBackground(this);
  }

  warn(text: string): void {
    this.context.events.warn(this, text);
  }

  /** Takes a lost connection out; its commands wait for another. */
  connectionLost(connection: Connection, why: string, breach: boolean): void {
    this.counters[COUNTER.lostConnections]++;
    this.counters[COUNTER.replays] += this.#takeOut(connection);
    this.context.events.connectionLost(this, connection, why, breach);
  }

  /** Returns how many commands the connection had. */
  #takeOut(connection: Connection): number {
    this.#connections = this.#connections.filter((one) => one !== connection);
    const orphans = this.context.commands.ofConnection(connection);
    this.#recovery.lost(connection);
    if (connection.closing) {
      if (orphans.some((one) => changesDisk(one) && connection.hasLeft(one))) this.#closing.push(connection);
      else connection.disconnect();
    }
    // Those of a broken-off replay are back in the unflushed writes before a new one begins.
    for (const orphan of orphans) {
      this.context.splicePipes.abandon(orphan);
      if (orphan.waiter !== undefined) {
        this.#dropOwn(orphan, connection);
        continue;
      }
      if (orphan.type === NBD_CMD_BLOCK_STATUS) this.extents.gaveUp();
      const command = this.#takeBack(orphan, connection);
      if (command.replayed) {
        command.replayed = false;
        command.state = COMMAND_UNFLUSHED;
      } else this.submit(command);
    }
    this.#recovery.advance();
    return orphans.length;
  }

  /** A connection that was given up has ended, answered or not. */
  connectionClosed(connection: Connection): void {
    this.#closing = this.#closing.filter((one) => one !== connection);
    for (const command of this.context.commands.ofConnection(connection)) {
      this.lost.closed(command, this.context.now());
      this.context.retire(command);
    }
    this.context.events.connectionClosed(connection);
  }

  /** Sends a command again that the server has not carried out: it is shutting down, as the loss of its connection tells. */
  sendLater(command: NbdCommand): void {
    const { replayed } = command;
    this.context.commands.renew(command);
    command.replayed = false;
    if (replayed) command.state = COMMAND_UNFLUSHED;
    else this.submit(command);
  }

  /** Called by the sink for each whole reply; `error` is the server's `NBD_E*` or 0. */
  answered(command: NbdCommand, error: number, text: string): void {
    if (command.state === COMMAND_LOST) {
      this.lost.answered(command);
      this.context.retire(command);
      this.#lostResolved();
      return;
    }
    if (command.waiter !== undefined) {
      const { waiter } = command;
      // It is over, and nobody's orphan when the answer ends the connection.
      command.connection = undefined;
      waiter.answered(command, error);
      this.context.retire(command);
      return;
    }
    if (command.replayed) {
      command.replayed = false;
      command.state = COMMAND_UNFLUSHED;
      // Back in the unflushed writes it belongs to no connection: it must not be taken for one's orphan.
      command.connection = undefined;
      this.#recovery.answered(error);
      return;
    }
    if (command.type === NBD_CMD_READ)
      this.latency.answered(command, this.context.now(), moved(this.counters));
    if (error !== 0 && this.#splitFurther(command, error)) return;
    const errno = error === 0 ? 0 : errnoFromNbd(error);
    if (errno !== 0) this.context.serverError(this, command, errno, text);
    else if (command.type === NBD_CMD_FLUSH) {
      if (this.identity.wanted) this.#sampleFlushed(command.sequence);
      this.unflushed.forget(command.sequence);
      if (command.changesBefore === this.#sent && !this.lost.any) {
        this.#isClean = true;
        this.#isTainted = false;
      }
    }
    if (command.type === NBD_CMD_FLUSH) this.#recovery.proven(command.arrivals);
    if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.answered(command);
    // A FLUSH that was sent before this answer may not have covered it.
    if (errno === 0 && changesDisk(command)) this.dirty = true;
    else if (changesDisk(command)) this.#isTainted = true;
    this.context.commandDone(this, command, errno);
  }

  /** Remembers an answered write, and asks for a FLUSH when that has become much. */
  remember(command: NbdCommand): void {
    this.unflushed.keep(command);
    if (!this.#looked && this.unflushed.limit > 0 && this.identity.samples.length === 0) {
      // Before there is much that must not be sent to another disk.
      this.#looked = true;
      this.context.sampleIdentity(this);
    }
    this.#relieve(this.unflushed.bytes);
  }

  /** Lets what waited go out, if it can. */
  continueWaiting(): void {
    while (!this.waiting) {
      const command = this.#waiting.shift();
      if (command === undefined) return;
      this.submit(command);
    }
  }

  /** Something acknowledged may be gone: the next fsync says so, and a person hears why. */
  lose(why: string): void {
    this.lossError = this.context.lossErrno;
    this.warn(`${why}: some writes may be lost, and the next fsync fails with EIO`);
  }

  /** The errno that an fsync must tell, once: 0 or EIO. */
  takeLossError(): number {
    const error = this.lossError;
    this.lossError = 0;
    return error;
  }

  /** Asks for a FLUSH of what is remembered, so that its memory can be used again. */
  relieve(): void {
    if (!this.unflushed.empty) this.#relieve(Number.POSITIVE_INFINITY);
  }

  /** A FLUSH of our own has ended, with an errno or 0. */
  flushEnded(errno: number): void {
    this.#pace.ended(this.context.now(), errno === 0);
    this.flushError = errno;
  }

  /** The server takes no payload of this size after all: asks again in halves, from now on always. */
  #splitFurther(command: NbdCommand, error: number): boolean {
    const smaller = payloadAfterRefusal(command.length, error, this.minimum);
    if (smaller === 0 || ![NBD_CMD_READ, NBD_CMD_WRITE].includes(command.type)) return false;
    this.maximum = Math.min(this.maximum, smaller);
    this.context.resubmit(command, this);
    return true;
  }

  /** The same where `bytes` are enough to be worth it, and no such FLUSH is under way. */
  #relieve(bytes: number): void {
    if (this.waiting || !this.#pace.begins(bytes, this.context.now())) return;
    this.flushInTheBackground();
  }

  #giveUp(command: NbdCommand): void {
    if (changesDisk(command))
      this.#refused?.add(toBigInt(command.offsetHi, command.offsetLo), command.length);
    this.context.commandDone(this, command, this.failing);
  }

  /** Whether a server that was started anew might lack something, until a FLUSH has been answered. */
  get mayLose(): boolean {
    const isKept = !this.unflushed.empty || this.unflushed.incomplete;
    return this.unflushed.limit > 0 && (isKept || this.changesUnderWay().length > 0);
  }

  /** The changes that were given to connections and are not resolved. */
  changesUnderWay(): ChangedBytes[] {
    const sent = this.#connections
      .flatMap((one) => this.context.commands.ofConnection(one))
      .filter(changesDisk);
    return [...sent, ...this.lost.changes];
  }

  /** Drops a command of an identity check or a replay on a lost connection. */
  #dropOwn(command: NbdCommand, connection: Connection): void {
    command.waiter = undefined;
    if (connection.closing && connection.hasLeft(command)) command.state = COMMAND_LOST;
    else this.context.retire(command);
  }

  /**
   * A command as it is to be sent again. Of a change that the server may have, the copy that it was sent stays, until
   * it is known what became of it.
   */
  #takeBack(command: NbdCommand, connection: Connection): NbdCommand {
    const { commands } = this.context;
    const isChange = changesDisk(command);
    if (!connection.hasLeft(command) || !(isChange || connection.closing)) {
      commands.renew(command);
      return command;
    }
    const other = commands.reissue(command);
    if (other.replayed) this.unflushed.replace(command, other);
    if (isChange) this.#isTainted = true;
    if (isChange) this.lost.add(command, connection, this.context.now());
    if (!connection.closing) this.context.retire(command);
    else if (!isChange) this.context.releaseBuffer(command);
    return other;
  }

  /** Whether some of the bytes are not on stable storage, or may be changed at any time. */
  isUncertain(hi: number, lo: number, length: number): boolean {
    if (this.#isClean) return false;
    if (this.#isTainted || this.lost.any || this.unflushed.incomplete) return true;
    const place = { offsetHi: hi, offsetLo: lo, length };
    const touches = (one: ChangedBytes): boolean => overlaps(one, place);
    return this.changesUnderWay().some(touches) || this.unflushed.list().some(touches);
  }

  /** Takes a sample of what a FLUSH that was sent at `mark` has made stable. */
  #sampleFlushed(mark: number): void {
    this.identity.wanted = false;
    if (this.#isTainted || this.lost.any || this.unflushed.incomplete) return;
    const kept = this.unflushed.list();
    const command = kept.findLast(({ sequence, buffer }) => sequence <= mark && buffer !== undefined);
    const buffer = command?.buffer;
    if (command === undefined || buffer === undefined) return;
    const later = [...this.changesUnderWay(), ...kept.slice(kept.indexOf(command) + 1)];
    if (!later.some((one) => overlaps(one, command)))
      this.identity.saw(command, buffer.bytes, command.bufferAt, false);
  }

  #awaitsChange(connection: Connection): boolean {
    return this.context.commands.ofConnection(connection).some((command) => this.lost.awaits(command));
  }

  /** Every change on a connection that was given up is resolved. */
  #finish(connection: Connection): void {
    connection.disconnect();
    this.connectionClosed(connection);
  }

  /** Something is known of lost changes, or the time for it is over: what waited for that goes on. */
  #lostResolved(): void {
    if (!this.lost.any) this.#saidUnproven = false;
    const waiting = this.#unproven;
    this.#unproven = [];
    for (const command of waiting) {
      const since = this.#lostSince(command);
      if (since === undefined) this.#sendInTurn(command);
      else if (this.context.now() - since < PROOF_PATIENCE) this.#unproven.push(command);
      else this.#failUnproven(command);
    }
    this.#recovery.advance();
  }

  /** Sends a change that had to wait, unless nobody waits for it any more. */
  #sendInTurn(command: NbdCommand): void {
    if (command.request?.answered === true) this.context.commandDone(this, command, EINTR);
    else this.submit(command);
  }

  #failUnproven(command: NbdCommand): void {
    if (!this.#saidUnproven) this.warn(unprovenText(command));
    this.#saidUnproven = true;
    this.context.commandDone(this, command, this.context.lossErrno);
  }

  /** Since when a copy of an older change is lost that a change overlaps. */
  #lostSince(command: NbdCommand): number | undefined {
    if (!changesDisk(command)) return undefined;
    const start = toBigInt(command.offsetHi, command.offsetLo);
    return this.lost.overlapping(start, start + BigInt(command.length), command.change);
  }

  #settleAll(requests: readonly FuseRequest[]): void {
    for (const request of requests) this.context.settle(request);
  }

  /** The invariant of LostCopies, at the one place where changes go to connections. */
  #assertOrder(command: NbdCommand): void {
    const isFree = !this.lost.any || this.#lostSince(command) === undefined;
    assert(isFree, 'no change is sent while an older one that overlaps it is unresolved');
  }

  #leastLoaded(): Connection {
    const { ready } = this.#recovery;
    let best = ready[0];
    for (const connection of ready) {
      if (connection.inFlight < best.inFlight) best = connection;
    }
    return best;
  }
}

function unprovenText({ offsetHi, offsetLo, length }: NbdCommand): string {
  const start = toBigInt(offsetHi, offsetLo);
  return (
    `writes to the bytes from ${start} to ${start + BigInt(length)} fail: an older write was sent on a lost connection, ` +
    `and after ${PROOF_PATIENCE / 1000} s there is no proof that the server will not still execute it; ` +
    'restart the server, or see --settle-time'
  );
}
