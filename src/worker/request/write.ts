// FUSE_WRITE: from the kernel's request to the NBD_CMD_WRITEs that answer it, with read-modify-write where needed.

import { ENOSPC, EROFS } from '../../constants/errno.js';
import { O_DSYNC } from '../../constants/open-flags.js';
import { FUSE_WRITE_CACHE, FUSE_WRITE_KILL_SUIDGID } from '../../fuse/constants.js';
import { HOST_ENDIAN, IO_FLAGS, IO_SIZE, WRITE_DATA, WRITE_FLAGS } from '../../fuse/layout.js';
import { killSetId, touchNode } from '../../fuse/tree.js';
import { libc } from '../../linux/libc.js';
import { splitAtBlocks, wideLength } from '../../nbd/block-rules.js';
import { durableFlags, needsFlush } from '../../nbd/capabilities.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../nbd/constants.js';
import { COPY_LIMIT } from '../device/device.js';
import { setRange } from '../disk/changes.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, NO_THREAD, REQUEST_WRITE, type Task } from '../flight/fuse-request.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { distance, highHalf, lowHalf, toBigInt, toDouble } from '../memory/u64.js';
import type { Engine } from './engine.js';
import { flushAfter, handleIn } from './flush.js';
import type { PrefetchedBytes } from './read.js';

/** No file handle. */
const NO_HANDLE = -1;

/** Begins the FUSE_WRITE in the device's buffer; its data follow the header there. */
export function startWrite(
  engine: Engine,
  prefetched: PrefetchedBytes | undefined,
  disk: Disk,
  view: DataView,
): void {
  const requested = view.getUint32(IO_SIZE, HOST_ENDIAN);
  const writeFlags = view.getUint32(WRITE_FLAGS, HOST_ENDIAN);
  const cached = (writeFlags & FUSE_WRITE_CACHE) !== 0;
  const synchronous = !cached && (view.getUint32(IO_FLAGS, HOST_ENDIAN) & O_DSYNC) !== 0;
  const request = engine.beginTransfer(REQUEST_WRITE, disk, view);
  const { offsetHi: hi, offsetLo: lo, length } = request;
  // The thread that dirtied the page does not wait for this WRITE, and its signals must not end it.
  if (cached) request.pid = NO_THREAD;
  if (disk.node.readOnly) request.fail(EROFS);
  // The kernel has cached bytes past the end and must not see a short write.
  else if (length === 0 ? requested > 0 : cached && length < requested) request.fail(ENOSPC);
  if (length < requested && cached) engine.events.wroteBeyondEnd(disk);
  if (length > 0 && request.error !== EROFS) {
    if ((writeFlags & FUSE_WRITE_KILL_SUIDGID) !== 0) killSetId(disk.node);
    if (!engine.kernelHoldsWrites) touchNode(disk.node, engine.system.wallClock.now());
    prefetched?.drop(disk, hi, lo, length);
    takeData(engine, request);
    sendWrite(engine, request, disk, synchronous ? handleIn(view) : NO_HANDLE);
  }
  engine.settle(request);
}

/** Gives the request the data of the WRITE in the device's buffer. */
function takeData(engine: Engine, request: FuseRequest): void {
  if (request.length > COPY_LIMIT) {
    request.setPayload(engine.device.takeBuffer(), WRITE_DATA);
    return;
  }
  const buffer = engine.buffers.take(request.length);
  libc.memcpy(buffer.address + HEADROOM, engine.device.buffer.address + WRITE_DATA, request.length);
  request.setPayload(buffer, HEADROOM);
}

/** @param synchronous the handle of a write that must be durable before its reply, or NO_HANDLE */
function sendWrite(engine: Engine, request: FuseRequest, disk: Disk, synchronous: number): void {
  const { offsetHi: hi, offsetLo: lo, length } = request;
  const before = lo & (disk.minimum - 1);
  const left = distance(disk.sizeHi, disk.sizeLo, hi, lo);
  const unaligned = wideLength(before, length, left, disk.minimum) !== length;
  const flags = synchronous === NO_HANDLE ? 0 : durableFlags(disk.can);
  const start = toDouble(hi, lo);
  setRange(request, start, start + length, disk.minimum);
  const mayBegin = disk.order.enter(request);
  // The request also waits for its turn; the task does the work then.
  if (!mayBegin) request.waitForOne();
  if (unaligned || !mayBegin) request.task = writeInTurn(engine, request, disk, flags);
  else {
    const command = engine.command(request, disk, NBD_CMD_WRITE);
    command.flags = flags;
    command.setPlace(hi, lo, length);
    command.setPayload(request.buffer, request.bufferAt);
    engine.submit(command, disk);
  }
  if (synchronous !== NO_HANDLE && needsFlush(disk.can))
    request.task = flushAfter(engine, request, disk, request.task, synchronous);
}

/** A request's write of any alignment, at its turn. A write whose requester has left does not begin. */
function* writeInTurn(engine: Engine, request: FuseRequest, disk: Disk, flags: number): Task {
  const { buffer, bufferAt, length } = request;
  if (buffer === undefined || !request.goesOn) return;
  yield* writeBytes(engine, request, disk, {
    flags,
    start: toBigInt(request.offsetHi, request.offsetLo),
    length,
    fill: (target, at) => {
      libc.memcpy(target.address + at, buffer.address + bufferAt, length);
    },
  });
}

/** Bytes to write at any offset: `fill` puts them into a buffer at byte `at`. */
export interface UnalignedWrite {
  readonly flags: number;
  readonly start: bigint;
  readonly length: number;
  fill(buffer: PooledBuffer, at: number): void;
}

/** Read-modify-write: reads the first and the last block if they are written in part, and writes whole blocks. */
export function* writeBytes(engine: Engine, request: FuseRequest, disk: Disk, write: UnalignedWrite): Task {
  const { start, length } = write;
  const { wide, edges } = splitAtBlocks({ start, end: start + BigInt(length) }, disk.blocks);
  const buffer = engine.buffers.take(Number(wide.end - wide.start));
  for (const { block } of edges) {
    const command = engine.command(request, disk, NBD_CMD_READ);
    command.setPlace(highHalf(block.start), lowHalf(block.start), Number(block.end - block.start));
    command.setPayload(buffer, HEADROOM + Number(block.start - wide.start));
    engine.submit(command, disk);
  }
  yield;
  if (request.error === 0) {
    write.fill(buffer, HEADROOM + Number(start - wide.start));
    const command = engine.command(request, disk, NBD_CMD_WRITE);
    command.flags = write.flags;
    command.setPlace(highHalf(wide.start), lowHalf(wide.start), Number(wide.end - wide.start));
    command.setPayload(buffer, HEADROOM);
    engine.submit(command, disk);
    yield;
  }
  engine.buffers.release(buffer);
}
