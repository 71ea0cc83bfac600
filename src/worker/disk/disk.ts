// One export in the worker: its connections, the commands that wait for a connection, and lost changes.
//
// The engine passes commands to `submit`; `DiskContext.commandDone` reports the end of each. Never blocks.
// The commands of a lost connection wait until Recovery makes another one ready. While `failing` is set
// nothing waits: every command ends with that errno until a connection is accepted.

import { EINTR } from '../../constants/errno.js';
import { errnoName } from '../../constants/errno-names.js';
import { type Node, statBlocks } from '../../fuse/tree.js';
import { type Blocks, blocksOf, isOnDisk, payloadPart } from '../../nbd/block-rules.js';
import type { ByteRange } from '../../nbd/byte-range.js';
import { type Capabilities, capabilitiesOf } from '../../nbd/capabilities.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EOVERFLOW,
  NBD_ESHUTDOWN,
} from '../../nbd/constants.js';
import { errnoFromNbd } from '../../nbd/errors.js';
import { type ExportInfo, effectiveBlockSizes, payloadLimit } from '../../nbd/export-info.js';
import { ChangeLength, PayloadLimits } from '../../nbd/request-lengths.js';
import type { Channel } from '../connection/channel.js';
import { Connection, type ConnectionOwner, type Loss } from '../connection/connection.js';
import type { Device } from '../device/device.js';
import { type FuseRequest, REQUEST_READ, type RequestTarget } from '../flight/fuse-request.js';
import {
  COMMAND_LOST,
  CommandQueue,
  type CommandTable,
  changesDisk,
  type NbdCommand,
} from '../flight/nbd-command.js';
import type { SplicePipes } from '../flight/splice-pipe.js';
import { assert, assertSlowly } from '../memory/assert.js';
import type { BufferPool } from '../memory/buffer-pool.js';
import type { Ranges } from '../memory/ranges.js';
import { distance, highHalf, lowHalf, placesOverlap, toBigInt } from '../memory/u64.js';
import { COUNTER, moved } from '../stats/counters.js';
import { FlushPace } from '../stats/flush-pace.js';
import { Latency } from '../stats/latency.js';
import { Allocation } from './allocation.js';
import {
  type ChangedBytes,
  type LostBytes,
  LostCopies,
  PROOF_PATIENCE,
  RangeOrder,
  rangeOf,
  UnflushedWrites,
} from './changes.js';
import { ExtentMap, MAX_AGE } from './extent-map.js';
import { FirstSamples, type SampledDisk } from './first-samples.js';
import { Identity } from './identity.js';
import { PendingLseeks } from './pending-lseeks.js';
import { type RecoveredDisk, Recovery } from './recovery.js';
import { DiskReplySink } from './reply-sink.js';
import { requestsOf, type Wait, waitsOf } from './waits.js';

/** Events of a disk. */
export interface DiskEvents {
  /** A connection is lost: it takes no more commands, and its commands wait for another one. */
  connectionLost(disk: Disk, connection: Connection, loss: Loss): void;
  /** A lost connection that was kept open for replies has closed. */
  connectionClosed(connection: Connection): void;
  /** A new connection leads to the same disk as before. */
  connectionAccepted(disk: Disk, connection: Connection): void;
  /** One line for the user. */
  warn(disk: Disk, text: string): void;
}

/** The part of the engine that a disk uses. */
export interface DiskContext {
  readonly events: DiskEvents;
  readonly commands: CommandTable;
  readonly buffers: BufferPool;
  readonly device: Device;
  readonly splicePipes: SplicePipes;
  /** Bytes of unflushed writes to keep; 0: none. */
  readonly unflushedLimit: number;
  /** Whether every READ asks for a reply as a whole, so that the server can report an error in it. */
  readonly wholeReads: boolean;
  /** Largest payload of one command in bytes. */
  readonly largestPayload: number;
  /** Whether block status may be cached: nobody else writes to the export. */
  readonly keepExtents: boolean;
  /** Errno by which fsync reports the loss of acknowledged writes. */
  readonly lossErrno: number;
  /** Milliseconds: see LostCopies. */
  readonly settleTime: number;
  /** Time in milliseconds at the beginning of this turn of the loop. */
  now(): number;
  /** A command has ended. @param errno 0, or the error for its request */
  commandDone(disk: Disk, command: NbdCommand, errno: number): void;
  /** Submits a command again in parts, as the server finds it too long. */
  resubmit(command: NbdCommand, disk: Disk): void;
  /** Releases a command and its buffer. */
  retire(command: NbdCommand): void;
  /** Releases the buffer of a lost READ, FLUSH or BLOCK_STATUS, which its copy uses. */
  releaseBuffer(command: NbdCommand): void;
  /** Lowers the number of commands that a request waits for. */
  settle(request: FuseRequest): void;
  /** The server has failed a command. */
  serverError(disk: Disk, command: NbdCommand, errno: number, text: string): void;
  /** Reads the block at byte `offset` as a sample for the disk's identity. */
  sampleBlock(disk: Disk, offset: bigint): void;
  flushInTheBackground(disk: Disk): void;
}

/** A file that shows a range of a disk. */
interface CountedPart extends ByteRange {
  readonly node: Node;
  /** Bytes of holes that a count has found in it. */
  holes: bigint;
}

/** See the file's head. */
export class Disk implements RequestTarget, ConnectionOwner, RecoveredDisk, SampledDisk {
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
  /** The largest payload of a command: a multiple of `minimum`. */
  readonly payload: PayloadLimits;
  /** Of WRITE_ZEROES. */
  readonly changeLength: ChangeLength;
  readonly can: Capabilities;
  /**
   * The flag of a READ whose reply comes as a whole, if the server supports it. qemu-nbd disconnects when it cannot
   * read a part of a reply, but reports the error of a whole one.
   */
  readonly wholeReply: number;
  /** The flags of all READs. A whole reply has its holes as zeros, so they are not needed without reason. */
  #readFlags: number;
  readonly unflushed: UnflushedWrites;
  readonly context: DiskContext;
  /** See COUNTER. */
  readonly counters: Float64Array;
  /** Changes sent on lost connections, which the server may still carry out. */
  readonly lost: LostCopies;
  /** The order of overlapping requests. */
  readonly order: RangeOrder;
  /** Changes that wait for proof that the server will not carry out an older one. */
  #unproven: NbdCommand[] = [];
  /** Known holes and data. */
  readonly extents: ExtentMap;
  /** Whether `st_blocks` is true. */
  readonly allocation: Allocation;
  /** Whether the server is remote. */
  readonly latency = new Latency();
  /** 0, or the errno of every command that would have to wait for a connection. */
  failing = 0;
  /** Whether a change was sent or answered since the last FLUSH was sent, or that FLUSH has failed. */
  dirty = false;
  #opens = 0;
  #writers = 0;
  #hasLookedForHoles = false;
  readonly pendingLseeks = new PendingLseeks();
  /** Samples that tell this disk from another. */
  readonly identity: Identity;
  readonly firstSamples: FirstSamples;
  /** Errno of the last background FLUSH; 0 for success. */
  flushError = 0;
  readonly #parts: CountedPart[] = [];
  readonly #waiting = new CommandQueue();
  #connections: Connection[] = [];
  #closing: Connection[] = [];
  /** Time at which the last ready connection was lost; undefined before. */
  #lostAt: number | undefined;
  /** Whether a FLUSH has covered every change ever sent, so that the data read are stable. */
  #isClean = true;
  /** Whether the outcome of a change since then is unknown. */
  #isTainted = false;
  /** Number of changes sent. */
  #sent = 0;
  /** Whether the user has the line about a failed FLUSH. */
  #hasWarnedFlush = false;
  /** Whether the user has the warning about writes that fail for lack of proof. */
  #hasWarnedUnproven = false;
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
    const maximum = payloadLimit({ ...sizes, maximum: Math.min(sizes.maximum, context.largestPayload) });
    this.payload = new PayloadLimits(maximum, this.minimum);
    this.extents = new ExtentMap(context.keepExtents);
    this.allocation = new Allocation(context.keepExtents ? MAX_AGE : 0);
    this.lost = new LostCopies(context.settleTime);
    this.order = new RangeOrder();
    this.changeLength = new ChangeLength(info.extendedHeaders);
    this.can = capabilitiesOf(info);
    this.wholeReply = this.can.df ? NBD_CMD_FLAG_DF : 0;
    this.#readFlags = context.wholeReads ? this.wholeReply : 0;
    const isKept = context.unflushedLimit > 0;
    this.identity = new Identity(this.minimum, info.size, { isKept, canFlush: this.can.flush });
    this.firstSamples = new FirstSamples(this);
    this.unflushed = new UnflushedWrites(this.can.flush ? context.unflushedLimit : 0, context);
    // Programs may write as much again while a FLUSH is in flight.
    this.#pace = new FlushPace(this.unflushed.limit / 2);
  }

  /** Number of open handles. */
  get opens(): number {
    return this.#opens;
  }

  /** Number of handles that may write. Without one, the kernel has no dirty pages. */
  get writers(): number {
    return this.#writers;
  }

  /** Counts a new handle. */
  opened(writes: boolean): void {
    this.#opens++;
    if (!writes) return;
    this.#writers++;
    this.mayHaveData();
  }

  /** Counts a closed handle. */
  closed(writes: boolean): void {
    // The handle may be older than this disk: a file can get another one.
    if (this.#opens > 0) this.#opens--;
    if (writes && this.#writers > 0) this.#writers--;
  }

  /** Whether `st_blocks` takes account of the holes found so far. */
  get hasLookedForHoles(): boolean {
    return this.#hasLookedForHoles;
  }

  /** Records that a count has found `bytes` bytes of holes so far. */
  foundHoles(bytes: bigint): void {
    this.node.blocks = statBlocks(this.info.size - bytes);
    for (const { node, start, end, holes } of this.#parts) node.blocks = statBlocks(end - start - holes);
    this.#hasLookedForHoles = true;
    if (this.writers > 0) this.mayHaveData();
  }

  /** Makes `st_blocks` at least 1: programs such as tar take 0 as proof that a file has no data. */
  mayHaveData(): void {
    if (this.node.blocks === 0n && this.info.size > 0n) this.node.blocks = 1n;
    for (const { node } of this.#parts) if (node.blocks === 0n) node.blocks = 1n;
  }

  /** The bytes of the disk. */
  get whole(): ByteRange {
    return { start: 0n, end: this.info.size };
  }

  /** The parts of the disk that are files of their own, with the bytes of holes that a count has found in each. */
  get parts(): readonly CountedPart[] {
    return this.#parts;
  }

  /** Adds a part. Its blocks are counted from the next stat(2) on. */
  addPart(part: CountedPart): void {
    assert(part.start >= 0n && part.end <= this.info.size, 'a part is within its disk');
    this.#parts.push(part);
    this.allocation.changed();
  }

  /** Bytes of `size` at (hi, lo) within the disk. */
  clip(hi: number, lo: number, size: number): number {
    return Math.max(0, Math.min(size, distance(this.sizeHi, this.sizeLo, hi, lo)));
  }

  /** Bytes from the beginning of a command's range that fit one command. */
  partOf({ type, flags, offsetHi, offsetLo, length }: NbdCommand): number {
    if (type !== NBD_CMD_READ && type !== NBD_CMD_WRITE) return length;
    const isWhole = type === NBD_CMD_READ && ((flags | this.#readFlags) & NBD_CMD_FLAG_DF) !== 0;
    const left = distance(this.sizeHi, this.sizeLo, offsetHi, offsetLo);
    return payloadPart(length, left, this.payload.of(isWhole), this.tail);
  }

  /** The open connections. */
  get connections(): readonly Connection[] {
    return this.#connections;
  }

  /** The connections that were given up and stay open until all changes sent on them are answered. */
  get closing(): readonly Connection[] {
    return this.#closing;
  }

  /** Whether commands must wait for a connection. */
  get waiting(): boolean {
    return this.#recovery.ready.length === 0;
  }

  /** Sends a command, or queues it until a connection is ready. `commandDone` reports its end. */
  submit(command: NbdCommand): void {
    if (this.waiting) {
      if (this.failing !== 0) this.#giveUp(command);
      else this.#waiting.push(command);
    } else if (this.lost.any && this.#lostSince(command) !== undefined) this.#unproven.push(command);
    else if (!this.firstSamples.isDue || !changesDisk(command) || !this.firstSamples.parks(command))
      this.assign(command, this.#leastLoaded());
  }

  /** Gives a command to a connection. */
  assign(command: NbdCommand, connection: Connection): void {
    const left = distance(this.sizeHi, this.sizeLo, command.offsetHi, command.offsetLo);
    assert(isOnDisk(command.length, left), 'a command stays on the disk');
    command.changesBefore = this.#sent;
    if (command.type === NBD_CMD_READ) command.flags |= this.#readFlags;
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
      this.allocation.changed();
      this.identity.changed(command, this.#sent);
    } else if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.querySent(this.changesUnderWay());
    connection.enqueue(command, this.context.now());
  }

  /** Adds a connection in its transmission phase. @param arrival its number among the connections of the file */
  attach(channel: Channel, number: number, info: ExportInfo, arrival = 0): Connection {
    const sink = new DiskReplySink(this);
    const connection = new Connection(channel, { number, arrival }, info, sink, this);
    sink.connection = connection;
    this.#connections.push(connection);
    this.#recovery.arrived(connection);
    this.continueWaiting();
    return connection;
  }

  /** Records that a new connection leads to the same disk, according to the samples. */
  accepted(connection: Connection): void {
    this.failing = 0;
    this.context.events.connectionAccepted(this, connection);
  }

  /** Offers the data of a READ, at byte `at` of `bytes`, to the identity. */
  saw(command: NbdCommand, bytes: Uint8Array, at: number): void {
    // The server may have read them before a change that was sent meanwhile.
    const { offsetHi, offsetLo, length, changesBefore } = command;
    const isOld = changesBefore !== this.#sent;
    if (isOld || this.isUncertain(offsetHi, offsetLo, length)) this.identity.wanted = false;
    else this.identity.saw(command, bytes, at, false);
  }

  /** Ends all commands that wait for a connection, now and later, with `errno`. */
  fail(errno: number): void {
    // A connection may have been accepted meanwhile.
    if (!this.waiting) return;
    this.failing = errno;
    for (const command of [...this.#unproven.splice(0), ...this.firstSamples.take()]) this.#giveUp(command);
    for (let command = this.#waiting.shift(); command !== undefined; command = this.#waiting.shift()) {
      this.#giveUp(command);
    }
  }

  /** Closes all connections and fails all commands, now and later. @param refused collects the ranges not written */
  failAll(errno: number, refused: Ranges): void {
    this.#refused = refused;
    this.failing = errno;
    for (const connection of [...this.#connections, ...this.#closing])
      connection.end({ manner: 'aborted', why: 'given up' });
    this.lost.clear();
    const waited = this.order.end(errno);
    for (const { kind, offsetHi, offsetLo, length } of waited)
      if (kind !== REQUEST_READ && length > 0) refused.add(toBigInt(offsetHi, offsetLo), length);
    this.#settleAll(waited);
    this.fail(errno);
  }

  /** Number of requests that wait for older overlapping ones. */
  get blockedByOverlap(): number {
    return this.order.waiting.length;
  }

  /** Number of requests that wait for proof about lost ones. */
  get blockedByProof(): number {
    return requestsOf(this.#unproven);
  }

  /** The reasons for which requests and new connections wait. */
  get waits(): readonly Wait[] {
    return waitsOf({
      order: this.order,
      unproven: this.#unproven,
      lostBefore: (change) => this.#lostBefore(change),
      recovery: this.#recovery,
      queue: this.#waiting,
      lostAt: this.#lostAt,
      now: this.context.now(),
    });
  }

  /** Whether a change waits for proof about a lost one. */
  get awaitsProof(): boolean {
    return this.#unproven.length > 0;
  }

  /** Looks for proof about lost changes and sends the changes that it allows. To be called while `lost.any`. */
  lookAtLost(now: number): void {
    this.lost.look(now);
    for (const connection of [...this.#closing])
      if (!this.#awaitsChange(connection)) this.#finish(connection);
    this.#lostResolved();
  }

  /** Records that the server of the first `attached` connections has ended, and all its requests with it. */
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

  sampleBlock(offset: bigint): void {
    this.context.sampleBlock(this, offset);
  }

  sendParked(commands: readonly NbdCommand[]): void {
    for (const command of commands) this.#sendInTurn(command);
  }

  flushInTheBackground(): void {
    this.context.flushInTheBackground(this);
  }

  warn(text: string): void {
    this.context.events.warn(this, text);
  }

  /** Removes a lost connection. Its commands wait for another one. */
  connectionLost(connection: Connection, loss: Loss): void {
    this.counters[COUNTER.lostConnections]++;
    this.counters[COUNTER.replays] += this.#takeOut(connection);
    this.context.events.connectionLost(this, connection, loss);
  }

  /** Returns the number of commands that the connection had. */
  #takeOut(connection: Connection): number {
    this.#connections = this.#connections.filter((one) => one !== connection);
    const orphans = this.context.commands.ofConnection(connection);
    const wasWaiting = this.waiting;
    this.#recovery.lost(connection);
    if (this.waiting && !wasWaiting) this.#lostAt = this.context.now();
    if (connection.closing) {
      if (orphans.some((one) => changesDisk(one) && connection.hasLeft(one))) this.#closing.push(connection);
      else connection.end({ manner: 'finished' });
    }
    // An interrupted replay puts its commands back among the unflushed writes before a new one begins.
    for (const orphan of orphans) {
      this.context.splicePipes.abandon(orphan);
      if (orphan.waiter !== undefined) {
        this.#dropOwn(orphan, connection);
        continue;
      }
      if (orphan.type === NBD_CMD_BLOCK_STATUS) this.extents.gaveUp();
      const command = this.#takeBack(orphan, connection);
      if (command.type === NBD_CMD_READ) command.flags |= this.wholeReply;
      if (command.replayed) command.keep();
      else this.submit(command);
    }
    this.#recovery.advance();
    return orphans.length;
  }

  /** A connection that was given up has closed. */
  connectionClosed(connection: Connection): void {
    this.#closing = this.#closing.filter((one) => one !== connection);
    for (const command of this.context.commands.ofConnection(connection)) {
      this.lost.closed(command, this.context.now());
      this.context.retire(command);
    }
    this.context.events.connectionClosed(connection);
  }

  /** Gives up a connection whose server is shutting down, and queues the command again that it refused. */
  sendLater(command: NbdCommand, connection: Connection): void {
    const { replayed } = command;
    if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.gaveUp();
    this.context.commands.renew(command);
    // Before the connection is given up: a replay on another connection may begin then, and send this command.
    if (replayed) command.keep();
    connection.end({ manner: 'given up', why: 'the server is shutting down' });
    if (!replayed) this.submit(command);
  }

  /** A reply is complete. @param error the server's NBD_E* or 0 */
  answered(command: NbdCommand, error: number, text: string): void {
    // The server may drop the writes of a failed FLUSH, and the next FLUSH may succeed.
    const isFailedFlush = command.type === NBD_CMD_FLUSH && error !== 0 && error !== NBD_ESHUTDOWN;
    if (isFailedFlush) {
      this.node.errors.raise();
      this.dirty = true;
    }
    if (command.state === COMMAND_LOST) {
      if (isFailedFlush) this.reportFailedFlush(errnoFromNbd(error));
      this.lost.answered(command);
      this.context.retire(command);
      this.#lostResolved();
      return;
    }
    if (command.waiter !== undefined) {
      const { waiter } = command;
      command.leaveConnection();
      waiter.answered(command, error);
      this.context.retire(command);
      return;
    }
    if (command.replayed) {
      command.keep();
      this.#recovery.answered(error);
      return;
    }
    if (command.type === NBD_CMD_READ) {
      this.latency.answered(command, this.context.now(), moved(this.counters));
      // The server may have disconnected because of this error: it would do so again.
      if (error !== 0 && error !== NBD_EOVERFLOW) this.#readFlags |= command.flags & NBD_CMD_FLAG_DF;
    }
    if (error !== 0 && this.#splitFurther(command, error)) return;
    const errno = error === 0 ? 0 : errnoFromNbd(error);
    if (errno !== 0) this.context.serverError(this, command, errno, text);
    else if (command.type === NBD_CMD_FLUSH) {
      this.#hasWarnedFlush = false;
      this.identity.flushed(command.changesBefore);
      if (this.identity.wanted) this.#sampleFlushed(command.sequence);
      this.unflushed.forget(command.sequence);
      if (command.changesBefore === this.#sent && !this.lost.any) {
        this.#isClean = true;
        this.#isTainted = false;
      }
    }
    if (command.type === NBD_CMD_FLUSH) this.#recovery.proven(command.arrivals);
    if (command.type === NBD_CMD_BLOCK_STATUS) this.extents.answered(command);
    if (changesDisk(command)) this.allocation.changed();
    // A FLUSH sent before this reply may not have covered the change.
    if (errno === 0 && changesDisk(command)) this.dirty = true;
    else if (changesDisk(command)) this.#isTainted = true;
    this.context.commandDone(this, command, errno);
  }

  /** Keeps an answered write until a FLUSH covers it, and sends a FLUSH when there are many. */
  remember(command: NbdCommand): void {
    this.unflushed.keep(command);
    this.#relieve(this.unflushed.bytes);
  }

  /** Sends the commands that wait, as far as a connection is ready. */
  continueWaiting(): void {
    while (!this.waiting) {
      const command = this.#waiting.shift();
      if (command === undefined) return;
      this.submit(command);
    }
  }

  /** Records the possible loss of acknowledged writes, for the next fsync of each handle and for the user. */
  lose(why: string): void {
    this.node.errors.raise();
    this.identity.lost();
    this.warn(`${why}: some writes may be lost, and the next fsync of each program fails with EIO`);
  }

  /** Tells the user that the server has failed a FLUSH; once until one succeeds. */
  reportFailedFlush(errno: number): void {
    if (!this.#hasWarnedFlush) this.lose(`the server failed to flush writes (${errnoName(errno)})`);
    this.#hasWarnedFlush = true;
  }

  /** The errno for an fsync through a handle: 0, or EIO once after a loss. */
  takeError(handle: number): number {
    return this.node.errors.take(handle) ? this.context.lossErrno : 0;
  }

  /** Sends a FLUSH if there are unflushed writes, so that their memory becomes free. */
  relieve(): void {
    if (!this.unflushed.empty) this.#relieve(Number.POSITIVE_INFINITY);
  }

  /** A background FLUSH has ended. @param errno 0 for success */
  flushEnded(errno: number): void {
    this.#pace.ended(this.context.now(), errno === 0);
    this.flushError = errno;
  }

  /** Splits a command that the server finds too long, and lowers its limit. False: it cannot be split. */
  #splitFurther(command: NbdCommand, error: number): boolean {
    if (command.type !== NBD_CMD_READ && command.type !== NBD_CMD_WRITE) return false;
    const isWhole = command.type === NBD_CMD_READ && (command.flags & NBD_CMD_FLAG_DF) !== 0;
    if (!this.payload.lower(command.length, error, isWhole)) return false;
    this.context.resubmit(command, this);
    return true;
  }

  /** Sends a background FLUSH if `bytes` are worth it and none is in flight. */
  #relieve(bytes: number): void {
    if (this.waiting || !this.#pace.begins(bytes, this.context.now())) return;
    this.flushInTheBackground();
  }

  #giveUp(command: NbdCommand): void {
    if (changesDisk(command))
      this.#refused?.add(toBigInt(command.offsetHi, command.offsetLo), command.length);
    this.context.commandDone(this, command, this.failing);
  }

  /** Whether a restarted server might lack acknowledged writes. */
  get mayLose(): boolean {
    const isKept = !this.unflushed.empty || this.unflushed.incomplete;
    return this.unflushed.limit > 0 && (isKept || this.changesUnderWay().length > 0);
  }

  /** Changes given to connections whose outcome is unknown. */
  changesUnderWay(): ChangedBytes[] {
    return [...this.#changesSent(), ...this.lost.changes];
  }

  #changesSent(): NbdCommand[] {
    return this.#connections.flatMap((one) => this.context.commands.ofConnection(one)).filter(changesDisk);
  }

  /** Drops a command of an identity check or a replay whose connection is lost. */
  #dropOwn(command: NbdCommand, connection: Connection): void {
    command.waiter = undefined;
    if (connection.closing && connection.hasLeft(command)) command.lose();
    else this.context.retire(command);
  }

  /**
   * Returns the command to send again. If the server may have received a change, the original stays in LostCopies until
   * its outcome is known.
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

  /** Whether some of the bytes are not on stable storage, or may change at any time. */
  isUncertain(hi: number, lo: number, length: number): boolean {
    if (this.#isClean) return false;
    if (this.#isTainted || this.lost.any || this.unflushed.incomplete) return true;
    const place = { offsetHi: hi, offsetLo: lo, length };
    const touches = (one: ChangedBytes): boolean => placesOverlap(one, place);
    return this.changesUnderWay().some(touches) || this.unflushed.list().some(touches);
  }

  /** Takes a sample of a write that a FLUSH sent at `mark` has made durable. */
  #sampleFlushed(mark: number): void {
    this.identity.wanted = false;
    if (this.#isTainted || this.lost.any || this.unflushed.incomplete) return;
    const unflushed = this.unflushed.list();
    const command = unflushed.findLast(({ sequence, buffer }) => sequence <= mark && buffer !== undefined);
    const buffer = command?.buffer;
    if (command === undefined || buffer === undefined) return;
    const later = [...this.changesUnderWay(), ...unflushed.slice(unflushed.indexOf(command) + 1)];
    if (!later.some((one) => placesOverlap(one, command)))
      this.identity.saw(command, buffer.bytes, command.bufferAt, false);
  }

  #awaitsChange(connection: Connection): boolean {
    return this.context.commands.ofConnection(connection).some((command) => this.lost.awaits(command));
  }

  /** Closes a connection that was given up, as every change sent on it has a known outcome. */
  #finish(connection: Connection): void {
    connection.end({ manner: 'finished' });
    this.connectionClosed(connection);
  }

  /** Sends the changes that waited for proof about lost ones, or fails them when their time is over. */
  #lostResolved(): void {
    if (!this.lost.any) this.#hasWarnedUnproven = false;
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

  /** Sends a change that had to wait, unless its requester is gone. */
  #sendInTurn(command: NbdCommand): void {
    if (command.request?.answered === true) this.context.commandDone(this, command, EINTR);
    else this.submit(command);
  }

  #failUnproven(command: NbdCommand): void {
    if (!this.#hasWarnedUnproven) this.warn(unprovenText(command));
    this.#hasWarnedUnproven = true;
    this.context.commandDone(this, command, this.context.lossErrno);
  }

  /** The time at which an older overlapping change was lost; undefined without one. */
  #lostSince(command: NbdCommand): number | undefined {
    return this.#lostBefore(command)?.lostAt;
  }

  #lostBefore(command: NbdCommand): LostBytes | undefined {
    if (!changesDisk(command)) return undefined;
    const { start, end } = rangeOf(command);
    return this.lost.overlapping(start, end, command.change);
  }

  #settleAll(requests: readonly FuseRequest[]): void {
    for (const request of requests) this.context.settle(request);
  }

  /** Checks the invariant. Every change passes here on its way to a connection. */
  #assertOrder(command: NbdCommand): void {
    const isFree = !this.lost.any || this.#lostSince(command) === undefined;
    assert(isFree, 'no change is sent while an older one that overlaps it is unresolved');
    assertSlowly(
      () => !this.#changesSent().some((one) => one.change !== command.change && placesOverlap(one, command)),
      'no two changes that overlap are in flight',
    );
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
