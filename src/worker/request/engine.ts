// The heart of the worker: requests with their commands, from the kernel's request to its reply.
//
// Driven by the loop and by the sinks of the disks' connections; owns the tables, the memory and the
// count of everything. The ways of the single requests are in data-requests.ts, tasks.ts (several
// steps) and metadata.ts.

import { OUT_HEADER } from '../../fuse/layout.js';
import { writeWriteReply } from '../../fuse/reply.js';
import { EINTR, EIO } from '../../linux/errno.js';
import { worksDuringSeek } from '../../linux/sync.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_WRITE_ZEROES } from '../../nbd/constants.js';
import type { Connection } from '../connection/connection.js';
import { canSendZeroCopy, ZeroCopySender } from '../connection/zero-copy.js';
import { Device } from '../device/device.js';
import { wantsToStop } from '../device/signals.js';
import type { Disk } from '../disk/disk.js';
import type { DiskContext } from '../disk/disk-context.js';
import {
  BACKGROUND_FLUSH,
  type FuseRequest,
  FuseRequestTable,
  ORDER_NONE,
  REQUEST_READ,
  REQUEST_STATUS_ONLY,
  REQUEST_WRITE,
  SPECULATIVE,
  type Task,
} from '../flight/fuse-request.js';
import { CommandTable, changesDisk, type NbdCommand } from '../flight/nbd-command.js';
import { SplicePipes } from '../flight/splice-pipe.js';
import { assert } from '../memory/assert.js';
import { BufferPool, HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { COUNTER, countLatency, moved } from '../stats/counters.js';
import { REAL_SYSTEM, type System } from '../world.js';
import { submitSplit } from './split.js';
import { flushUnasked, sampleDisk } from './tasks.js';
import type { Trace } from './trace.js';

/** What an engine is made with; see DiskContext for the numbers. */
export interface EngineSettings {
  /** The /dev/fuse descriptor. */
  readonly descriptor: number;
  readonly keepBytes: number;
  readonly keepExtents: boolean;
  readonly kernelHoldsWrites: boolean;
  readonly largestPayload: number;
  /** Bytes of payload in use at which no new request is taken from the kernel. */
  readonly memoryLimit: number;
  /** Milliseconds: see DiskContext. */
  readonly settleTime: number;
}

/** What the engine tells the world outside of the worker. */
export interface EngineEvents {
  lost(disk: Disk, connection: Connection, why: string, breach: boolean): void;
  /** A connection that was lost and could still be read is closed. */
  closed(connection: Connection): void;
  /** A new connection leads to the same disk as ever. */
  accepted(disk: Disk, connection: Connection): void;
  warn(disk: Disk, text: string): void;
  /** A cached write went past the end of a file, whose size the kernel now believes to be larger. */
  wroteBeyondEnd(disk: Disk): void;
  /** Writes that the kernel still holds of this file must come out; `synced` is called then. */
  syncWanted(disk: Disk): void;
}

/** See the file's head. */
export class Engine implements DiskContext {
  readonly commands = new CommandTable();
  readonly requests = new FuseRequestTable();
  readonly buffers: BufferPool;
  readonly device: Device;
  readonly splicePipes: SplicePipes;
  readonly zeroCopy: ZeroCopySender;
  readonly keepBytes: number;
  readonly largestPayload: number;
  readonly keepExtents: boolean;
  /** Whether the kernel gathers writes before it sends them. */
  readonly kernelHoldsWrites: boolean;
  /** It can be made to send them while it waits for LSEEK; `awaitSync` is for no other kernel. */
  readonly kernelSendsWrites: boolean;
  readonly lossErrno = EIO;
  readonly settleTime: number;
  readonly trace: Trace | undefined;
  readonly system: System;
  readonly #events: EngineEvents;
  #now: number;

  constructor(
    settings: EngineSettings,
    trace: Trace | undefined,
    events: EngineEvents,
    system: System = REAL_SYSTEM,
  ) {
    this.system = system;
    this.#now = system.clock.now();
    this.buffers = new BufferPool(settings.memoryLimit, system.memory);
    this.device = new Device(settings.descriptor, this.buffers, settings.largestPayload, system.device);
    this.zeroCopy = new ZeroCopySender(canSendZeroCopy(system.kernelRelease));
    this.kernelSendsWrites = worksDuringSeek(system.kernelRelease);
    this.splicePipes = new SplicePipes(this.buffers);
    this.keepBytes = settings.keepBytes;
    this.keepExtents = settings.keepExtents;
    this.kernelHoldsWrites = settings.kernelHoldsWrites;
    this.largestPayload = settings.largestPayload;
    this.settleTime = settings.settleTime;
    this.trace = trace;
    this.#events = events;
  }

  now(): number {
    return this.#now;
  }

  /** Reads the clock: once a turn of the loop. */
  tick(): number {
    this.#now = this.system.clock.now();
    return this.#now;
  }

  /** A new request that is held open: `settle` it once all its commands are submitted. */
  begin(kind: number, disk: Disk): FuseRequest {
    const request = this.requests.take();
    request.kind = kind;
    request.disk = disk;
    request.pending = 1;
    request.startedAt = this.#now;
    return request;
  }

  /** Submits one command of a request; `block` is shared with it where there is one. */
  command(
    request: FuseRequest,
    disk: Disk,
    type: number,
    flags: number,
    offsetHi: number,
    offsetLo: number,
    length: number,
    buffer: PooledBuffer | undefined,
    bufferAt: number,
  ): NbdCommand {
    const command = this.commands.take();
    command.type = type;
    command.flags = flags;
    command.offsetHi = offsetHi;
    command.offsetLo = offsetLo;
    command.length = length;
    command.request = request;
    command.change = request.change;
    command.buffer = buffer;
    command.bufferAt = bufferAt;
    command.submittedAt = this.#now;
    command.movedBefore = moved(disk.counters);
    if (buffer !== undefined) buffer.references++;
    request.pending++;
    disk.submit(command);
    return command;
  }

  commandDone(command: NbdCommand, errno: number): void {
    const request = command.request;
    const disk = request?.disk;
    this.trace?.command(command, errno);
    if (disk !== undefined) countCommand(disk.counters, command.type);
    if (
      errno === 0 &&
      disk !== undefined &&
      changesDisk(command) &&
      // What is stable need not be sent again, unless something older is, maybe to the same place.
      ((command.flags & NBD_CMD_FLAG_FUA) === 0 || !disk.unflushed.empty)
    ) {
      disk.remember(command);
    } else this.retire(command);
    if (request === undefined) return;
    if (errno !== 0 && request.error === 0) request.error = errno;
    this.settle(request);
  }

  resubmit(command: NbdCommand, disk: Disk): void {
    const { request, type, flags, offsetHi, offsetLo, length, buffer, bufferAt } = command;
    if (request === undefined) return;
    submitSplit(this, request, disk, type, flags, offsetHi, offsetLo, length, buffer, bufferAt);
    this.retire(command);
    this.settle(request);
  }

  retire(command: NbdCommand): void {
    if (command.buffer !== undefined) this.buffers.release(command.buffer);
    this.commands.release(command);
  }

  /** One thing less that a request waits for; with the last it goes on or ends. */
  settle(request: FuseRequest): void {
    assert(request.pending > 0 && request.index >= 0, 'an operation is settled as often as it waits');
    if (--request.pending > 0) return;
    while (request.task !== undefined) {
      request.pending = 1;
      if (request.task.next().done === true) request.task = undefined;
      if (--request.pending > 0) return;
    }
    this.#finish(request);
  }

  /** Starts a request of several steps. */
  run(request: FuseRequest, task: Task): void {
    request.task = task;
    this.settle(request);
  }

  serverError(disk: Disk, command: NbdCommand, errno: number, text: string): void {
    disk.counters[COUNTER.errors]++;
    this.trace?.serverError(disk, command, errno, text);
  }

  connectionLost(disk: Disk, connection: Connection, why: string, breach: boolean): void {
    disk.counters[COUNTER.lostConnections]++;
    disk.counters[COUNTER.replays] += disk.connectionLost(connection);
    this.#events.lost(disk, connection, why, breach);
  }

  connectionClosed(connection: Connection): void {
    this.#events.closed(connection);
  }

  connectionAccepted(disk: Disk, connection: Connection): void {
    this.#events.accepted(disk, connection);
  }

  releaseBuffer(command: NbdCommand): void {
    if (command.buffer !== undefined) this.buffers.release(command.buffer);
    command.buffer = undefined;
    command.bufferAt = HEADROOM;
  }

  sampleIdentity(disk: Disk): void {
    const request = this.begin(SPECULATIVE, disk);
    this.run(request, sampleDisk(this, request, disk));
  }

  flushInTheBackground(disk: Disk): void {
    const request = this.begin(BACKGROUND_FLUSH, disk);
    this.run(request, flushUnasked(this, request, disk));
  }

  warn(disk: Disk, text: string): void {
    this.#events.warn(disk, text);
  }

  wroteBeyondEnd(disk: Disk): void {
    this.#events.wroteBeyondEnd(disk);
  }

  /** Frees the asker of a request that a deadly signal has hit. False: the request is not under way here. */
  interruptRequest(uniqueHi: number, uniqueLo: number): boolean {
    const request = this.requests.find(uniqueHi, uniqueLo);
    if (request === undefined) return false;
    if (request.answered) return true;
    // The message itself does not say whom it is about.
    const isEnding = wantsToStop(request.pid, this.system.isBeingEnded);
    if (isEnding) this.interrupt(request);
    // Programs do not expect EINTR from a disk for a signal that they handle: see Watchdog for the others.
    request.interrupted = isEnding === undefined;
    return true;
  }

  /** Answers EINTR to who has asked; the work goes on. */
  interrupt(request: FuseRequest): void {
    if (request.answered) return;
    request.answered = true;
    this.trace?.interrupted(request);
    this.device.replyError(EINTR, request);
  }

  /** Lets a request wait until the kernel has sent all writes to the file that it still holds. */
  awaitSync(request: FuseRequest, disk: Disk): void {
    request.pending++;
    if (disk.pendingLseeks.wait(request)) this.#events.syncWanted(disk);
  }

  /** The kernel has sent all writes to the file from before the last `syncWanted`; or (not `good`) maybe not. */
  synced(disk: Disk, good: boolean): void {
    const served = disk.pendingLseeks.sent(good);
    if (disk.pendingLseeks.any) this.#events.syncWanted(disk);
    for (const request of served) this.settle(request);
  }

  #finish(request: FuseRequest): void {
    const disk = request.disk;
    if (!request.answered) this.#reply(request);
    if (this.trace !== undefined && request.opcode !== 0) this.trace.answer(request, request.error);
    if (disk !== undefined) countOperation(disk.counters, request, this.system.clock.now());
    if (request.kind === BACKGROUND_FLUSH) disk?.flushEnded(request.error);
    if (request.buffer !== undefined) this.buffers.release(request.buffer);
    const next = request.order === ORDER_NONE ? undefined : disk?.order.leave(request);
    this.requests.release(request);
    if (next === undefined) return;
    for (const other of next) this.settle(other);
  }

  #reply(request: FuseRequest): void {
    const { error, kind, length, buffer, bufferAt } = request;
    request.answered = true;
    if (kind === BACKGROUND_FLUSH || kind === SPECULATIVE) return;
    if (error !== 0 || kind === REQUEST_STATUS_ONLY) this.device.replyError(error, request);
    else if (kind === REQUEST_WRITE) {
      this.device.replySmall(writeWriteReply(this.device.small, 0, length), request);
    } else if (kind === REQUEST_READ && buffer !== undefined) {
      const header = bufferAt - OUT_HEADER;
      this.device.reply(buffer.view, header, buffer.address + header, OUT_HEADER + length, 0, request);
    } else this.device.replyError(EIO, request);
  }
}

function countCommand(counters: Float64Array, type: number): void {
  if (type === NBD_CMD_FLUSH) counters[COUNTER.flushes]++;
  else if (type === NBD_CMD_WRITE_ZEROES) counters[COUNTER.zeroes]++;
}

function countOperation(counters: Float64Array, { kind, length, startedAt }: FuseRequest, now: number): void {
  // At the end of the disk nobody was asked.
  if (kind === REQUEST_READ && length > 0) {
    counters[COUNTER.reads]++;
    counters[COUNTER.readBytes] += length;
    countLatency(counters, COUNTER.readLatency, now - startedAt);
  } else if (kind === REQUEST_WRITE) {
    counters[COUNTER.writes]++;
    counters[COUNTER.writtenBytes] += length;
    countLatency(counters, COUNTER.writeLatency, now - startedAt);
  }
}
