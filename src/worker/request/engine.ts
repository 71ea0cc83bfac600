// The heart of the worker: requests with their commands, from the kernel's request to its reply.
//
// Driven by the loop and by the sinks of the disks' connections; owns the tables, the memory and the
// count of everything. The ways of the single requests are in data-requests.ts, tasks.ts (several
// steps) and metadata.ts.

import { OUT_HEADER } from '../../fuse/layout.js';
import { writeWriteReply } from '../../fuse/reply.js';
import { EINTR, EIO, errnoName } from '../../linux/errno.js';
import { worksDuringSeek } from '../../linux/sync.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE_ZEROES } from '../../nbd/constants.js';
import { canSendZeroCopy, ZeroCopySender } from '../connection/zero-copy.js';
import { Device } from '../device/device.js';
import { wantsToStop } from '../device/signals.js';
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
import { assert } from '../memory/assert.js';
import { BufferPool, HEADROOM } from '../memory/buffer-pool.js';
import { highHalf, lowHalf } from '../memory/u64.js';
import { COUNTER, countLatency, moved } from '../stats/counters.js';
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

/** Events of the engine and its disks that others act on. */
export interface EngineEvents extends DiskEvents {
  /** A cached write went past the end of a file: the kernel believes that the file has grown. */
  wroteBeyondEnd(disk: Disk): void;
  /** The kernel must send the writes to this file that it still holds; `Engine.synced` follows. */
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
    this.keepBytes = settings.keepBytes;
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

  /** A new request of a program, in the device's buffer; as `begin`. */
  beginAsked(kind: number, disk: Disk, view: DataView): FuseRequest {
    const request = this.begin(kind, disk);
    request.readHeader(view, this.device.source);
    return request;
  }

  /** A new command of a request, without a place or payload: fill it in, then `submit` it. */
  command(request: FuseRequest, disk: Disk, type: number): NbdCommand {
    const command = this.commands.take();
    command.type = type;
    command.request = request;
    command.change = request.change;
    command.submittedAt = this.#now;
    command.movedBefore = moved(disk.counters);
    request.pending++;
    return command;
  }

  /** Sends a command, split where its payload is larger than the server takes. */
  submit(command: NbdCommand, disk: Disk): void {
    let rest = command;
    for (;;) {
      const count = disk.pieceOf(rest);
      if (count === rest.length) break;
      const next = this.commands.split(rest, count);
      if (next.request !== undefined) next.request.pending++;
      disk.submit(rest);
      rest = next;
    }
    disk.submit(rest);
  }

  commandDone(disk: Disk, command: NbdCommand, errno: number): void {
    const { request } = command;
    this.trace?.command(command, errno);
    if (request !== undefined) countCommand(disk.counters, command.type);
    // A durable write need not be sent again, unless an older one is, maybe to the same place.
    const isDurable = (command.flags & NBD_CMD_FLAG_FUA) !== 0 && disk.unflushed.empty;
    if (errno === 0 && request !== undefined && changesDisk(command) && !isDurable) disk.remember(command);
    else this.retire(command);
    if (request === undefined) return;
    if (errno !== 0 && request.error === 0) request.error = errno;
    this.settle(request);
  }

  resubmit(command: NbdCommand, disk: Disk): void {
    this.commands.renew(command);
    this.submit(command, disk);
  }

  retire(command: NbdCommand): void {
    if (command.buffer !== undefined) this.buffers.release(command.buffer);
    this.commands.release(command);
  }

  /** One thing less that a request waits for; with the last it goes on or ends. */
  settle(request: FuseRequest): void {
    assert(request.pending > 0 && request.index >= 0, 'a request is settled as often as it waits');
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

  releaseBuffer(command: NbdCommand): void {
    if (command.buffer !== undefined) this.buffers.release(command.buffer);
    command.buffer = undefined;
    command.bufferAt = HEADROOM;
  }

  sampleIdentity(disk: Disk): void {
    const request = this.begin(SPECULATIVE, disk);
    this.run(request, this.#sample(request, disk));
  }

  flushInTheBackground(disk: Disk): void {
    const request = this.begin(BACKGROUND_FLUSH, disk);
    this.run(request, this.flush(request, disk));
  }

  /** The steps of a FLUSH of our own. A server may report a loss only once, and no program hears of this one. */
  *flush(request: FuseRequest, disk: Disk): Task {
    this.submit(this.command(request, disk, NBD_CMD_FLUSH), disk);
    yield;
    // Without a server nothing is lost: the unflushed writes are sent again to the next one.
    if (request.error !== 0 && disk.failing === 0 && disk.lossError === 0)
      disk.lose(`the server could not flush what was written (${errnoName(request.error)})`);
  }

  /** Reads a block by which the disk can be told from another: the first of three that is not about to change. */
  *#sample(request: FuseRequest, disk: Disk): Task {
    const { identity } = disk;
    for (const at of identity.candidates(disk.info.size)) {
      const [hi, lo] = [highHalf(at), lowHalf(at)];
      if (disk.isUncertain(hi, lo, identity.unit)) continue;
      const buffer = this.buffers.take(identity.unit);
      identity.expect(hi, lo);
      const command = this.command(request, disk, NBD_CMD_READ);
      command.setPlace(hi, lo, identity.unit);
      command.setPayload(buffer, HEADROOM);
      this.submit(command, disk);
      yield;
      const isGood = request.error === 0 && identity.isAsExpected && !disk.isUncertain(hi, lo, identity.unit);
      if (isGood)
        identity.saw({ offsetHi: hi, offsetLo: lo, length: identity.unit }, buffer.bytes, HEADROOM, true);
      this.buffers.release(buffer);
      if (isGood || request.error !== 0) return;
    }
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
    request.markAnswered();
    this.trace?.interrupted(request);
    this.device.replyError(EINTR, request);
  }

  /** Lets a request wait until the kernel has sent all writes to the file that it still holds. */
  awaitSync(request: FuseRequest, disk: Disk): void {
    request.pending++;
    if (disk.pendingLseeks.wait(request)) this.events.syncWanted(disk);
  }

  /** The kernel has sent all writes to the file from before the last `syncWanted`; or (not `good`) maybe not. */
  synced(disk: Disk, good: boolean): void {
    const served = disk.pendingLseeks.sent(good);
    if (disk.pendingLseeks.any) this.events.syncWanted(disk);
    for (const request of served) this.settle(request);
  }

  #finish(request: FuseRequest): void {
    const disk = request.disk;
    if (!request.answered) this.#reply(request);
    if (this.trace !== undefined && request.opcode !== 0) this.trace.answer(request, request.error);
    if (disk !== undefined) countOperation(disk.counters, request, this.system.clock.now());
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
