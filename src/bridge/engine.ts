// The heart of the worker: operations with their commands, from the kernel's request to its reply.
//
// Driven by the loop and by the sinks of the disks' connections; owns the tables, the memory and the
// count of everything. The ways of the single requests are in data-requests.ts, tasks.ts (several
// steps) and metadata.ts.

import { OUT_HEADER } from '../fuse/layout.js';
import { writeWriteReply } from '../fuse/reply.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_WRITE_ZEROES } from '../nbd/constants.js';
import { EINTR, EIO } from '../os/errno.js';
import { worksDuringSeek } from '../os/sync.js';
import { assert } from './assert.js';
import { type Block, Blocks, HEADROOM } from './blocks.js';
import { type Command, CommandTable, changesDisk } from './command.js';
import type { Connection } from './connection.js';
import { COUNTER, countLatency, moved } from './counters.js';
import { Device } from './device.js';
import type { Disk } from './disk.js';
import type { DiskContext } from './disk-context.js';
import { wantsToStop } from './interrupt.js';
import { canLend, Lender } from './lender.js';
import {
  OPERATION_INTERNAL,
  OPERATION_OWN,
  OPERATION_PLAIN,
  OPERATION_READ,
  OPERATION_WRITE,
  type Operation,
  OperationTable,
  ORDER_NONE,
  type Task,
} from './operation.js';
import { submitPieces } from './pieces.js';
import { SpliceLanes } from './splice-lane.js';
import { flushUnasked, sampleDisk } from './tasks.js';
import type { Trace } from './trace.js';
import { REAL_SYSTEM, type System } from './world.js';

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
  readonly operations = new OperationTable();
  readonly blocks: Blocks;
  readonly device: Device;
  readonly lanes: SpliceLanes;
  readonly lender: Lender;
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
    this.blocks = new Blocks(settings.memoryLimit, system.memory);
    this.device = new Device(settings.descriptor, this.blocks, settings.largestPayload, system.device);
    this.lender = new Lender(canLend(system.kernelRelease));
    this.kernelSendsWrites = worksDuringSeek(system.kernelRelease);
    this.lanes = new SpliceLanes(this.blocks);
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

  /** A new operation that is held open: `settle` it once all its commands are submitted. */
  begin(kind: number, disk: Disk): Operation {
    const operation = this.operations.take();
    operation.kind = kind;
    operation.disk = disk;
    operation.pending = 1;
    operation.startedAt = this.#now;
    return operation;
  }

  /** Submits one command of an operation; `block` is shared with it where there is one. */
  command(
    operation: Operation,
    disk: Disk,
    type: number,
    flags: number,
    offsetHi: number,
    offsetLo: number,
    length: number,
    block: Block | undefined,
    blockAt: number,
  ): Command {
    const command = this.commands.take();
    command.type = type;
    command.flags = flags;
    command.offsetHi = offsetHi;
    command.offsetLo = offsetLo;
    command.length = length;
    command.operation = operation;
    command.change = operation.change;
    command.block = block;
    command.blockAt = blockAt;
    command.submittedAt = this.#now;
    command.movedBefore = moved(disk.counters);
    if (block !== undefined) block.references++;
    operation.pending++;
    disk.submit(command);
    return command;
  }

  commandDone(command: Command, errno: number): void {
    const operation = command.operation;
    const disk = operation?.disk;
    this.trace?.command(command, errno);
    if (disk !== undefined) countCommand(disk.counters, command.type);
    if (
      errno === 0 &&
      disk !== undefined &&
      changesDisk(command) &&
      // What is stable need not be sent again, unless something older is, maybe to the same place.
      ((command.flags & NBD_CMD_FLAG_FUA) === 0 || !disk.journal.empty)
    ) {
      disk.remember(command);
    } else this.retire(command);
    if (operation === undefined) return;
    if (errno !== 0 && operation.error === 0) operation.error = errno;
    this.settle(operation);
  }

  resubmit(command: Command, disk: Disk): void {
    const { operation, type, flags, offsetHi, offsetLo, length, block, blockAt } = command;
    if (operation === undefined) return;
    submitPieces(this, operation, disk, type, flags, offsetHi, offsetLo, length, block, blockAt);
    this.retire(command);
    this.settle(operation);
  }

  retire(command: Command): void {
    if (command.block !== undefined) this.blocks.release(command.block);
    this.commands.give(command);
  }

  /** One thing less that an operation waits for; with the last it goes on or ends. */
  settle(operation: Operation): void {
    assert(operation.pending > 0 && operation.index >= 0, 'a request is settled as often as it waits');
    if (--operation.pending > 0) return;
    while (operation.task !== undefined) {
      operation.pending = 1;
      if (operation.task.next().done === true) operation.task = undefined;
      if (--operation.pending > 0) return;
    }
    this.#finish(operation);
  }

  /** Starts an operation of several steps. */
  run(operation: Operation, task: Task): void {
    operation.task = task;
    this.settle(operation);
  }

  serverError(disk: Disk, command: Command, errno: number, text: string): void {
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

  makeIdle(command: Command): void {
    if (command.block !== undefined) this.blocks.release(command.block);
    command.block = undefined;
    command.blockAt = HEADROOM;
  }

  lookAtIdentity(disk: Disk): void {
    const operation = this.begin(OPERATION_OWN, disk);
    this.run(operation, sampleDisk(this, operation, disk));
  }

  flushInTheBackground(disk: Disk): void {
    const operation = this.begin(OPERATION_INTERNAL, disk);
    this.run(operation, flushUnasked(this, operation, disk));
  }

  warn(disk: Disk, text: string): void {
    this.#events.warn(disk, text);
  }

  wroteBeyondEnd(disk: Disk): void {
    this.#events.wroteBeyondEnd(disk);
  }

  /** Frees the asker of a request that a deadly signal has hit. False: the request is not under way here. */
  interruptRequest(uniqueHi: number, uniqueLo: number): boolean {
    const operation = this.operations.find(uniqueHi, uniqueLo);
    if (operation === undefined) return false;
    if (operation.answered) return true;
    // The message itself does not say whom it is about.
    const isEnding = wantsToStop(operation.pid, this.system.isBeingEnded);
    if (isEnding) this.interrupt(operation);
    // Programs do not expect EINTR from a disk for a signal that they handle: see Watchdog for the others.
    operation.interrupted = isEnding === undefined;
    return true;
  }

  /** Answers EINTR to who has asked; the work goes on. */
  interrupt(operation: Operation): void {
    if (operation.answered) return;
    operation.answered = true;
    this.trace?.interrupted(operation);
    this.device.replyError(EINTR, operation);
  }

  /** Lets an operation wait until the kernel has sent all writes to the file that it still holds. */
  awaitSync(operation: Operation, disk: Disk): void {
    operation.pending++;
    if (disk.seekers.wait(operation)) this.#events.syncWanted(disk);
  }

  /** The kernel has sent all writes to the file from before the last `syncWanted`; or (not `good`) maybe not. */
  synced(disk: Disk, good: boolean): void {
    const served = disk.seekers.sent(good);
    if (disk.seekers.any) this.#events.syncWanted(disk);
    for (const operation of served) this.settle(operation);
  }

  #finish(operation: Operation): void {
    const disk = operation.disk;
    if (!operation.answered) this.#reply(operation);
    if (this.trace !== undefined && operation.opcode !== 0) this.trace.answer(operation, operation.error);
    if (disk !== undefined) countOperation(disk.counters, operation, this.system.clock.now());
    if (operation.kind === OPERATION_INTERNAL) disk?.flushEnded(operation.error);
    if (operation.block !== undefined) this.blocks.release(operation.block);
    const next = operation.order === ORDER_NONE ? undefined : disk?.order.leave(operation);
    this.operations.give(operation);
    if (next === undefined) return;
    for (const other of next) this.settle(other);
  }

  #reply(operation: Operation): void {
    const { error, kind, length, block, blockAt } = operation;
    operation.answered = true;
    if (kind === OPERATION_INTERNAL || kind === OPERATION_OWN) return;
    if (error !== 0 || kind === OPERATION_PLAIN) this.device.replyError(error, operation);
    else if (kind === OPERATION_WRITE) {
      this.device.replySmall(writeWriteReply(this.device.small, 0, length), operation);
    } else if (kind === OPERATION_READ && block !== undefined) {
      const header = blockAt - OUT_HEADER;
      this.device.reply(block.view, header, block.address + header, OUT_HEADER + length, 0, operation);
    } else this.device.replyError(EIO, operation);
  }
}

function countCommand(counters: Float64Array, type: number): void {
  if (type === NBD_CMD_FLUSH) counters[COUNTER.flushes]++;
  else if (type === NBD_CMD_WRITE_ZEROES) counters[COUNTER.zeroes]++;
}

function countOperation(counters: Float64Array, { kind, length, startedAt }: Operation, now: number): void {
  // At the end of the disk nobody was asked.
  if (kind === OPERATION_READ && length > 0) {
    counters[COUNTER.reads]++;
    counters[COUNTER.readBytes] += length;
    countLatency(counters, COUNTER.readLatency, now - startedAt);
  } else if (kind === OPERATION_WRITE) {
    counters[COUNTER.writes]++;
    counters[COUNTER.writtenBytes] += length;
    countLatency(counters, COUNTER.writeLatency, now - startedAt);
  }
}
