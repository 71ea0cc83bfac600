// The engine: carries out the kernel's requests by commands to the server, from the request to its reply.
//
// Driven by the loop and the reply sinks; owns the tables, the buffers and the counters. The other files of this room
// have the kinds of requests; fuse/metadata.ts answers requests that need no server.

import { EINTR, EIO, EOPNOTSUPP, EROFS } from '../../constants/errno.js';
import { HOST_ENDIAN, IO_OFFSET_HI, IO_OFFSET_LO, IO_SIZE, OUT_HEADER } from '../../fuse/layout.js';
import { writeWriteReply } from '../../fuse/reply.js';
import { worksDuringSeek } from '../../linux/sync.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE_ZEROES } from '../../nbd/constants.js';
import { canSendZeroCopy, ZeroCopySender } from '../connection/zero-copy.js';
import { Device } from '../device/device.js';
import { PATIENCE, patienceAfterInterrupt } from '../device/signals.js';
import { REAL_SYSTEM, type System } from '../device/system.js';
import type { Disk, DiskContext, DiskEvents } from '../disk/disk.js';
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
import { BufferPool, HEADROOM } from '../memory/buffer-pool.js';
import { highHalf, lowHalf } from '../memory/u64.js';
import { COUNTER, countLatency, moved } from '../stats/counters.js';
import type { Trace } from './trace.js';

/** Settings of an engine; DiskContext explains the numbers. */
export interface EngineSettings {
  /** The /dev/fuse descriptor. */
  readonly descriptor: number;
  readonly unflushedLimit: number;
  readonly wholeReads: boolean;
  readonly keepExtents: boolean;
  readonly kernelHoldsWrites: boolean;
  readonly largestPayload: number;
  /** Bytes of payload in use at which the engine takes no new request from the kernel. */
  readonly memoryLimit: number;
  /** Milliseconds: see DiskContext. */
  readonly settleTime: number;
}

/** Events of the engine and its disks. */
export interface EngineEvents extends DiskEvents {
  /** A cached write went beyond the end of a file, so the kernel believes that the file has grown. */
  wroteBeyondEnd(disk: Disk): void;
  /** The main thread must make the kernel write the file's dirty pages back; `Engine.synced` follows. */
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
  readonly unflushedLimit: number;
  readonly wholeReads: boolean;
  readonly largestPayload: number;
  readonly keepExtents: boolean;
  /** Whether the kernel has a writeback cache. */
  readonly kernelHoldsWrites: boolean;
  /** Whether the kernel can write back while it waits for an LSEEK. `awaitSync` needs that. */
  readonly kernelSendsWrites: boolean;
  readonly lossErrno = EIO;
  readonly settleTime: number;
  readonly trace: Trace | undefined;
  readonly system: System;
  readonly events: EngineEvents;
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
    this.unflushedLimit = settings.unflushedLimit;
    this.wholeReads = settings.wholeReads;
    this.keepExtents = settings.keepExtents;
    this.kernelHoldsWrites = settings.kernelHoldsWrites;
    this.largestPayload = settings.largestPayload;
    this.settleTime = settings.settleTime;
    this.trace = trace;
    this.events = events;
  }

  now(): number {
    return this.#now;
  }

  /** Reads the clock, once a turn of the loop. */
  tick(): number {
    this.#now = this.system.clock.now();
    return this.#now;
  }

  /** Takes a request that is pending once: `settle` it when all its commands are submitted. */
  begin(kind: number, disk: Disk): FuseRequest {
    const request = this.requests.take();
    request.kind = kind;
    request.disk = disk;
    request.waitForOne();
    request.startedAt = this.#now;
    return request;
  }

  /** Takes a request for the kernel's request in the device's buffer; otherwise as `begin`. */
  beginFor(kind: number, disk: Disk, view: DataView): FuseRequest {
    const request = this.begin(kind, disk);
    request.readHeader(view, this.device.source);
    return request;
  }

  /** Takes a request for the FUSE_READ or FUSE_WRITE in the device's buffer, cut at the end of the disk. */
  beginTransfer(kind: number, disk: Disk, view: DataView): FuseRequest {
    const request = this.beginFor(kind, disk, view);
    const hi = view.getUint32(IO_OFFSET_HI, HOST_ENDIAN);
    const lo = view.getUint32(IO_OFFSET_LO, HOST_ENDIAN);
    request.setPlace(hi, lo, disk.clip(hi, lo, view.getUint32(IO_SIZE, HOST_ENDIAN)));
    return request;
  }

  /** Takes a command for a request, without range and payload. Fill it in, then `submit` it. */
  command(request: FuseRequest, disk: Disk, type: number): NbdCommand {
    const command = this.commands.take();
    command.type = type;
    command.request = request;
    command.change = request.change;
    command.submittedAt = this.#now;
    command.movedBefore = moved(disk.counters);
    request.waitForOne();
    return command;
  }

  /** Sends a command, split if its payload is larger than the server allows. */
  submit(command: NbdCommand, disk: Disk): void {
    let rest = command;
    for (;;) {
      const count = disk.partOf(rest);
      if (count === rest.length) break;
      const next = this.commands.split(rest, count);
      next.request?.waitForOne();
      disk.submit(rest);
      rest = next;
    }
    disk.submit(rest);
  }

  commandDone(disk: Disk, command: NbdCommand, errno: number): void {
    const { request } = command;
    this.trace?.command(command, errno);
    if (request !== undefined) countCommand(disk.counters, command.type);
    // A durable write is complete, unless a replay sends older writes again, perhaps to the same place.
    const isDurable = (command.flags & NBD_CMD_FLAG_FUA) !== 0 && disk.unflushed.empty;
    if (errno === 0 && request !== undefined && changesDisk(command) && !isDurable) disk.remember(command);
    else {
      if (errno !== 0) disk.identity.failed(command);
      this.retire(command);
    }
    if (request === undefined) return;
    if (errno !== 0) request.fail(errno);
    this.settle(request);
  }

  resubmit(command: NbdCommand, disk: Disk): void {
    this.commands.renew(command);
    command.submittedAt = this.#now;
    command.movedBefore = moved(disk.counters);
    this.submit(command, disk);
  }

  retire(command: NbdCommand): void {
    if (command.buffer !== undefined) this.buffers.release(command.buffer);
    this.commands.release(command);
  }

  /** Lowers the number of things that a request waits for. At zero the request continues or ends. */
  settle(request: FuseRequest): void {
    if (request.endWait() > 0) return;
    while (request.task !== undefined) {
      request.waitForOne();
      if (request.task.next().done === true) request.task = undefined;
      if (request.endWait() > 0) return;
    }
    this.#finish(request);
  }

  /** Starts the steps of a request. */
  run(request: FuseRequest, task: Task): void {
    request.task = task;
    this.settle(request);
  }

  serverError(disk: Disk, command: NbdCommand, errno: number, text: string): void {
    disk.counters[COUNTER.serverErrors]++;
    this.trace?.serverError(disk, command, errno, text);
  }

  releaseBuffer(command: NbdCommand): void {
    if (command.buffer !== undefined) this.buffers.release(command.buffer);
    command.buffer = undefined;
    command.bufferAt = HEADROOM;
  }

  sampleBlock(disk: Disk, offset: bigint): void {
    const request = this.begin(SPECULATIVE, disk);
    this.run(request, this.#sample(request, disk, offset));
  }

  flushInTheBackground(disk: Disk): void {
    const request = this.begin(BACKGROUND_FLUSH, disk);
    this.run(request, this.flush(request, disk));
  }

  /** Steps of a background FLUSH. */
  *flush(request: FuseRequest, disk: Disk): Task {
    this.submit(this.command(request, disk, NBD_CMD_FLUSH), disk);
    yield;
    // Without a server there is no loss: a replay sends the unflushed writes to the next one.
    if (request.error !== 0 && disk.failing === 0) disk.reportFailedFlush(request.error);
  }

  /** Steps that read a block as a sample for the identity, unless a change is sent to it meanwhile. */
  *#sample(request: FuseRequest, disk: Disk, offset: bigint): Task {
    const { identity } = disk;
    const [hi, lo] = [highHalf(offset), lowHalf(offset)];
    const block = identity.expect(hi, lo);
    const buffer = this.buffers.take(identity.unit);
    const command = this.command(request, disk, NBD_CMD_READ);
    command.flags = disk.wholeReply;
    command.setPlace(hi, lo, identity.unit);
    command.setPayload(buffer, HEADROOM);
    this.submit(command, disk);
    yield;
    if (identity.isAsExpected(block) && request.error === 0)
      identity.saw(block, buffer.bytes, HEADROOM, true);
    this.buffers.release(buffer);
    disk.firstSamples.ended();
  }

  /** Handles FUSE_INTERRUPT: ends a request if a signal is ending its task. False: the request is not here. */
  interruptRequest(uniqueHi: number, uniqueLo: number): boolean {
    const request = this.requests.find(uniqueHi, uniqueLo);
    if (request === undefined) return false;
    if (request.answered) return true;
    // FUSE_INTERRUPT does not name the task.
    const patience = patienceAfterInterrupt(request.pid, this.system.patienceOf);
    if (patience === PATIENCE.ending) this.interrupt(request);
    // Watchdog ends it when the server is silent.
    request.interrupted = patience !== PATIENCE.none;
    return true;
  }

  /** Answers EINTR to the requester. The request itself continues. */
  interrupt(request: FuseRequest): void {
    if (request.answered) return;
    request.markAnswered();
    this.trace?.interrupted(request);
    this.device.replyError(EINTR, request);
  }

  /** Makes a request wait until the kernel has written the file's dirty pages back. */
  awaitSync(request: FuseRequest, disk: Disk): void {
    request.waitForOne();
    if (disk.pendingLseeks.wait(request)) this.events.syncWanted(disk);
  }

  /** The writeback that `syncWanted` started has ended. @param good false: there may still be dirty pages */
  synced(disk: Disk, good: boolean): void {
    const done = disk.pendingLseeks.sent(good);
    if (disk.pendingLseeks.any) this.events.syncWanted(disk);
    for (const request of done) this.settle(request);
  }

  #finish(request: FuseRequest): void {
    const disk = request.disk;
    if (!request.answered) this.#reply(request);
    if (this.trace !== undefined && request.opcode !== 0) this.trace.answer(request, request.error);
    if (disk !== undefined) countRequest(disk.counters, request, this.system.clock.now());
    if (request.kind === BACKGROUND_FLUSH) disk?.flushEnded(request.error);
    if (request.buffer !== undefined) this.buffers.release(request.buffer);
    const next = request.order === ORDER_NONE ? undefined : disk?.leaveOrder(request);
    this.requests.release(request);
    if (next === undefined) return;
    for (const other of next) this.settle(other);
  }

  #reply(request: FuseRequest): void {
    const { error, kind, length, buffer, bufferAt } = request;
    request.markAnswered();
    if (kind === BACKGROUND_FLUSH || kind === SPECULATIVE) return;
    if (error !== 0 || kind === REQUEST_STATUS_ONLY) this.device.replyError(error, request);
    else if (kind === REQUEST_WRITE) {
      this.device.replySmall(writeWriteReply(this.device.small, 0, length), request);
    } else if (kind === REQUEST_READ && buffer !== undefined) {
      const header = bufferAt - OUT_HEADER;
      this.device.reply(buffer.view, header, buffer.address + header, OUT_HEADER + length, request);
    } else this.device.replyError(EIO, request);
  }
}

function countCommand(counters: Float64Array, type: number): void {
  if (type === NBD_CMD_FLUSH) counters[COUNTER.flushes]++;
  else if (type === NBD_CMD_WRITE_ZEROES) counters[COUNTER.zeroes]++;
}

/** Errors by which a request is refused, not failed: FALLOCATE in another mode, a change of a read-only file. */
const isRefusal = (errno: number): boolean => errno === EOPNOTSUPP || errno === EROFS;

function countFailure(counters: Float64Array, { kind, error }: FuseRequest): void {
  if (kind === REQUEST_READ) counters[COUNTER.failedReads]++;
  else if (kind === REQUEST_WRITE) counters[COUNTER.failedWrites]++;
  else if (kind === REQUEST_STATUS_ONLY && !isRefusal(error)) counters[COUNTER.failedOthers]++;
}

function countRequest(counters: Float64Array, request: FuseRequest, now: number): void {
  const { kind, length, startedAt } = request;
  if (request.error !== 0) {
    countFailure(counters, request);
    return;
  }
  // A READ at the end of the disk needs no server.
  if (kind === REQUEST_READ && length > 0) {
    counters[COUNTER.reads]++;
    counters[COUNTER.readBytes] += length;
    countLatency(counters, COUNTER.readLatency, COUNTER.readSeconds, now - startedAt);
  } else if (kind === REQUEST_WRITE) {
    counters[COUNTER.writes]++;
    counters[COUNTER.writtenBytes] += length;
    countLatency(counters, COUNTER.writeLatency, COUNTER.writeSeconds, now - startedAt);
  }
}
