// Requests of several steps, written as generators: each `yield` waits for all commands so far.
//
// Run by Engine.settle. None of this is on the way of the ordinary READ and WRITE, so BigInt and
// small objects are fine here. A task sees errors in `request.error`, and ends early when it does.

import { writeLseekReply } from '../../fuse/reply.js';
import { EINVAL, ENXIO, EOVERFLOW, errnoName } from '../../linux/errno.js';
import { libc } from '../../linux/libc.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../../nbd/constants.js';
import { effectiveBlockSizes, payloadLimit } from '../../nbd/export-info.js';
import type { Disk } from '../disk/disk.js';
import type { FuseRequest, Task } from '../flight/fuse-request.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { highHalf, lowHalf, toBigInt } from '../memory/u64.js';
import type { Engine } from './engine.js';
import { readFromServer, submitSplit } from './split.js';

/** Bytes of one WRITE_ZEROES, where headers are compact. */
const ZERO_PIECE = 1024 * 1024 * 1024;

/** Bytes of one with extended headers: a length stays exact as a number. */
const EXTENDED_ZERO_PIECE = 2 ** 50;

/** WRITE_ZEROES or WRITEs of zeros in flight for one request. */
const ZERO_WINDOW = 4;

/** BLOCK_STATUS that a scan for holes sends: 256 GiB, when each is answered whole. */
const SCAN_QUESTIONS = 64;

/** BLOCK_STATUS that one LSEEK sends: 4 TiB with compact headers, when each is answered whole. */
const SEEK_QUESTIONS = 1024;

/** Bytes of zeros sent at a time to a server that cannot zero. */
const ZERO_DATA = 1024 * 1024;

/** Whether a task is to go on: nothing failed, and who asked was not freed by a signal. */
function goesOn({ error, answered }: FuseRequest): boolean {
  return error === 0 && !answered;
}

/** A READ that had to wait for changes that it overlaps. */
export function* readInTurn(engine: Engine, request: FuseRequest, disk: Disk): Task {
  if (!goesOn(request)) return;
  readFromServer(engine, request, disk);
  yield;
}

/** A request's write, whatever its alignment, when it has its turn. One whose asker has left is not begun. */
export function* writeInTurn(engine: Engine, request: FuseRequest, disk: Disk, flags: number): Task {
  const { buffer, bufferAt, length } = request;
  if (buffer === undefined || !goesOn(request)) return;
  const start = toBigInt(request.offsetHi, request.offsetLo);
  yield* writeBytes(engine, request, disk, flags, start, length, (target, at) => {
    libc.memcpy(target.address + at, buffer.address + bufferAt, length);
  });
}

/** Reads the blocks around `length` bytes at `start`, lets `fill` put the new bytes in, writes them. */
function* writeBytes(
  engine: Engine,
  request: FuseRequest,
  disk: Disk,
  flags: number,
  start: bigint,
  length: number,
  fill: (buffer: PooledBuffer, at: number) => void,
): Task {
  const minimum = disk.minimum;
  const before = Number(start % BigInt(minimum));
  const first = start - BigInt(before);
  const rounded = Math.ceil((before + length) / minimum) * minimum;
  const whole = Number(first + BigInt(rounded) > disk.info.size ? disk.info.size - first : BigInt(rounded));
  const buffer = engine.buffers.take(rounded);
  const lastStart = Math.max(rounded - minimum, 0);
  const read = (at: number): void => {
    const offset = first + BigInt(at);
    const count = Math.min(minimum, whole - at);
    engine.command(
      request,
      disk,
      NBD_CMD_READ,
      0,
      highHalf(offset),
      lowHalf(offset),
      count,
      buffer,
      HEADROOM + at,
    );
  };
  if (before > 0) read(0);
  if (before + length < whole && (before === 0 || lastStart > 0)) read(lastStart);
  yield;
  if (request.error === 0) {
    fill(buffer, HEADROOM + before);
    submitSplit(
      engine,
      request,
      disk,
      NBD_CMD_WRITE,
      flags,
      highHalf(first),
      lowHalf(first),
      whole,
      buffer,
      HEADROOM,
    );
    yield;
  }
  engine.buffers.release(buffer);
}

/** A write that must be stable before it is answered, on a server that has FLUSH but not FUA. */
export function* flushAfter(engine: Engine, request: FuseRequest, disk: Disk, write: Task | undefined): Task {
  if (write !== undefined) yield* write;
  if (!goesOn(request)) return;
  engine.command(request, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
  yield;
}

/** An fsync. It may wait for a server that comes back without what it had acknowledged: then it says so. */
export function* flushDisk(engine: Engine, request: FuseRequest, disk: Disk): Task {
  if (disk.can.flush) engine.command(request, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
  yield;
  if (goesOn(request)) request.error = disk.takeLossError();
}

/** A FLUSH of our own. A server may tell of a loss only once: nobody else would hear of it. */
export function* flushUnasked(engine: Engine, request: FuseRequest, disk: Disk): Task {
  engine.command(request, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
  yield;
  // Without a server nothing is lost: what is remembered is sent again to the next.
  if (request.error !== 0 && disk.failing === 0 && disk.lossError === 0)
    disk.lose(`the server could not flush what was written (${errnoName(request.error)})`);
}

/** Asks the server for a block by which the disk can be told from another: the first that is not to change. */
export function* sampleDisk(engine: Engine, request: FuseRequest, disk: Disk): Task {
  const { unit } = disk.identity;
  const last = disk.info.size - BigInt(unit);
  if (last < 0n) return;
  const middle = (last / 2n / BigInt(unit)) * BigInt(unit);
  for (const at of [0n, middle, (last / BigInt(unit)) * BigInt(unit)]) {
    const [hi, lo] = [highHalf(at), lowHalf(at)];
    if (disk.isUncertain(hi, lo, unit)) continue;
    const buffer = engine.buffers.take(unit);
    disk.identity.expect(hi, lo);
    engine.command(request, disk, NBD_CMD_READ, 0, hi, lo, unit, buffer, HEADROOM);
    yield;
    const isGood = request.error === 0 && disk.identity.isAsExpected && !disk.isUncertain(hi, lo, unit);
    if (isGood) disk.identity.saw(hi, lo, unit, buffer.bytes, HEADROOM, true);
    engine.buffers.release(buffer);
    if (isGood || request.error !== 0) return;
  }
}

/** Makes bytes [start, end) of the disk read back as zeros; it must be its turn. */
export function* zeroRange(
  engine: Engine,
  request: FuseRequest,
  disk: Disk,
  start: bigint,
  end: bigint,
  flags: number,
): Task {
  if (!goesOn(request)) return;
  const minimum = BigInt(disk.minimum);
  const first = ((start + minimum - 1n) / minimum) * minimum;
  const last = end === disk.info.size ? end : (end / minimum) * minimum;
  if (first >= last) {
    yield* zeroBytes(engine, request, disk, start, Number(end - start));
    return;
  }
  if (start < first) yield* zeroBytes(engine, request, disk, start, Number(first - start));
  if (request.error === 0 && last < end) yield* zeroBytes(engine, request, disk, last, Number(end - last));
  if (request.error !== 0) return;
  const tail = last === disk.info.size ? BigInt(disk.tail) : 0n;
  if (disk.can.zero) {
    yield* zeroBlocks(engine, request, disk, first, last - tail, flags);
    yield* zeroBlocks(engine, request, disk, last - tail, last, flags);
  } else yield* writeZeros(engine, request, disk, first, last);
}

function* zeroBytes(engine: Engine, request: FuseRequest, disk: Disk, start: bigint, length: number): Task {
  yield* writeBytes(engine, request, disk, 0, start, length, (buffer, at) => {
    buffer.bytes.fill(0, at, at + length);
  });
}

function* zeroBlocks(
  engine: Engine,
  request: FuseRequest,
  disk: Disk,
  first: bigint,
  last: bigint,
  flags: number,
): Task {
  let piece = BigInt(disk.info.extendedHeaders ? EXTENDED_ZERO_PIECE : ZERO_PIECE);
  const modest = BigInt(payloadLimit(effectiveBlockSizes(disk.info)));
  for (let at = first; at < last && goesOn(request); ) {
    const from = at;
    for (let i = 0; i < ZERO_WINDOW && at < last; i++) {
      const count = Number(last - at < piece ? last - at : piece);
      // Without FAST_ZERO asked for, a server has no excuse to refuse: see docs/protocol-support.md.
      engine.command(
        request,
        disk,
        NBD_CMD_WRITE_ZEROES,
        flags,
        highHalf(at),
        lowHalf(at),
        count,
        undefined,
        0,
      );
      at += BigInt(count);
    }
    yield;
    // It may find what is longer than its largest payload too long: the same again, in pieces of that.
    if ((request.error === EOVERFLOW || request.error === EINVAL) && piece > modest) {
      request.error = 0;
      piece = modest;
      at = from;
    }
  }
}

function* writeZeros(engine: Engine, request: FuseRequest, disk: Disk, first: bigint, last: bigint): Task {
  const zeros = engine.buffers.take(ZERO_DATA);
  zeros.bytes.fill(0, HEADROOM, HEADROOM + ZERO_DATA);
  for (let at = first; at < last && goesOn(request); at += BigInt(ZERO_DATA)) {
    const count = last - at < BigInt(ZERO_DATA) ? Number(last - at) : ZERO_DATA;
    submitSplit(engine, request, disk, NBD_CMD_WRITE, 0, highHalf(at), lowHalf(at), count, zeros, HEADROOM);
    yield;
  }
  engine.buffers.release(zeros);
}

/** Answers SEEK_DATA (`data`) or SEEK_HOLE from `offset` on, by block status where the server has it. */
export function* seekExtent(
  engine: Engine,
  request: FuseRequest,
  disk: Disk,
  offset: bigint,
  data: boolean,
): Task {
  const size = disk.info.size;
  if (offset >= size) {
    request.error = ENXIO;
    return;
  }
  const found = disk.extents;
  // In every mode the kernel holds what was written to a mapping.
  if (disk.writers > 0 && disk.can.allocation) {
    if (engine.kernelSendsWrites) {
      engine.awaitSync(request, disk);
      yield;
    }
    if (!engine.kernelSendsWrites || disk.pendingLseeks.failed) {
      // There may be data that nobody here knows of.
      answerSeek(engine, request, data ? offset : size);
      return;
    }
  }
  if (!disk.can.allocation) {
    answerSeek(engine, request, data ? offset : size);
    return;
  }
  found.begin();
  let at = offset;
  let questions = 0;
  while (at < size) {
    let extent = found.at(at);
    if (extent === undefined && questions++ < SEEK_QUESTIONS) {
      askStatus(engine, request, disk, at);
      yield;
      if (!goesOn(request)) break;
      extent = found.at(at);
    }
    // A server that refuses to tell, or tells nothing of this byte, or too little at a time: all is
    // data from here on.
    if (extent === undefined || extent.hole !== data) {
      request.error = 0;
      answerSeek(engine, request, extent === undefined && !data ? size : at);
      return;
    }
    at = extent.end;
  }
  if (request.error !== 0) {
    request.error = 0;
    answerSeek(engine, request, data ? at : size);
  } else if (data) request.error = ENXIO;
  else answerSeek(engine, request, size);
}

function askStatus(engine: Engine, request: FuseRequest, disk: Disk, at: bigint): void {
  const { start, length } = disk.extents.ask(at, disk.info.size);
  engine.command(
    request,
    disk,
    NBD_CMD_BLOCK_STATUS,
    0,
    highHalf(start),
    lowHalf(start),
    length,
    undefined,
    0,
  );
}

/** Finds out how much of the disk is holes, with a bounded number of questions, for `st_blocks`. */
export function* scanHoles(engine: Engine, request: FuseRequest, disk: Disk): Task {
  const { size } = disk.info;
  for (let questions = 0; questions < SCAN_QUESTIONS; questions++) {
    const { known } = disk.extents.summary(size);
    if (known >= size) break;
    askStatus(engine, request, disk, known);
    yield;
    const { holes, known: now } = disk.extents.summary(size);
    disk.node.blocks = (size - holes + 511n) / 512n;
    disk.lookedForHoles = true;
    if (request.error !== 0 || now <= known) break;
  }
  disk.scanned = true;
}

function answerSeek(engine: Engine, request: FuseRequest, offset: bigint): void {
  if (request.answered) return;
  engine.device.replySmall(writeLseekReply(engine.device.small, offset), request);
  request.answered = true;
}
