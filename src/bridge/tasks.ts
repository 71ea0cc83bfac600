// Operations of several steps, written as generators: each `yield` waits for all commands so far.
//
// Run by Engine.settle. None of this is on the way of the ordinary READ and WRITE, so BigInt and
// small objects are fine here. A task sees errors in `operation.error`, and ends early when it does.

import { writeLseekReply } from '../fuse/reply.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../nbd/constants.js';
import { effectiveBlockSizes, payloadLimit } from '../nbd/export-info.js';
import { EINVAL, ENXIO, EOVERFLOW, errnoName } from '../os/errno.js';
import { libc } from '../os/libc.js';
import { type Block, HEADROOM } from './blocks.js';
import type { Disk } from './disk.js';
import type { Engine } from './engine.js';
import { high, join, low } from './offsets.js';
import type { Operation, Task } from './operation.js';
import { readFromServer, submitPieces } from './pieces.js';

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
function goesOn({ error, answered }: Operation): boolean {
  return error === 0 && !answered;
}

/** A READ that had to wait for changes that it overlaps. */
export function* readInTurn(engine: Engine, operation: Operation, disk: Disk): Task {
  if (!goesOn(operation)) return;
  readFromServer(engine, operation, disk);
  yield;
}

/** An operation's write, whatever its alignment, when it has its turn. One whose asker has left is not begun. */
export function* writeInTurn(engine: Engine, operation: Operation, disk: Disk, flags: number): Task {
  const { block, blockAt, length } = operation;
  if (block === undefined || !goesOn(operation)) return;
  const start = join(operation.offsetHi, operation.offsetLo);
  yield* writeBytes(engine, operation, disk, flags, start, length, (target, at) => {
    libc.memcpy(target.address + at, block.address + blockAt, length);
  });
}

/** Reads the blocks around `length` bytes at `start`, lets `fill` put the new bytes in, writes them. */
function* writeBytes(
  engine: Engine,
  operation: Operation,
  disk: Disk,
  flags: number,
  start: bigint,
  length: number,
  fill: (block: Block, at: number) => void,
): Task {
  const minimum = disk.minimum;
  const before = Number(start % BigInt(minimum));
  const first = start - BigInt(before);
  const rounded = Math.ceil((before + length) / minimum) * minimum;
  const whole = Number(first + BigInt(rounded) > disk.info.size ? disk.info.size - first : BigInt(rounded));
  const block = engine.blocks.take(rounded);
  const lastStart = Math.max(rounded - minimum, 0);
  const read = (at: number): void => {
    const offset = first + BigInt(at);
    const count = Math.min(minimum, whole - at);
    engine.command(operation, disk, NBD_CMD_READ, 0, high(offset), low(offset), count, block, HEADROOM + at);
  };
  if (before > 0) read(0);
  if (before + length < whole && (before === 0 || lastStart > 0)) read(lastStart);
  yield;
  if (operation.error === 0) {
    fill(block, HEADROOM + before);
    submitPieces(
      engine,
      operation,
      disk,
      NBD_CMD_WRITE,
      flags,
      high(first),
      low(first),
      whole,
      block,
      HEADROOM,
    );
    yield;
  }
  engine.blocks.release(block);
}

/** A write that must be stable before it is answered, on a server that has FLUSH but not FUA. */
export function* flushAfter(engine: Engine, operation: Operation, disk: Disk, write: Task | undefined): Task {
  if (write !== undefined) yield* write;
  if (!goesOn(operation)) return;
  engine.command(operation, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
  yield;
}

/** An fsync. It may wait for a server that comes back without what it had acknowledged: then it says so. */
export function* flushDisk(engine: Engine, operation: Operation, disk: Disk): Task {
  if (disk.can.flush) engine.command(operation, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
  yield;
  if (goesOn(operation)) operation.error = disk.takeLossError();
}

/** A FLUSH of our own. A server may tell of a loss only once: nobody else would hear of it. */
export function* flushUnasked(engine: Engine, operation: Operation, disk: Disk): Task {
  engine.command(operation, disk, NBD_CMD_FLUSH, 0, 0, 0, 0, undefined, 0);
  yield;
  // Without a server nothing is lost: what is remembered is sent again to the next.
  if (operation.error !== 0 && disk.failing === 0 && disk.lossError === 0)
    disk.lose(`the server failed to flush writes (${errnoName(operation.error)})`);
}

/** Asks the server for a block by which the disk can be told from another: the first that is not to change. */
export function* sampleDisk(engine: Engine, operation: Operation, disk: Disk): Task {
  const { unit } = disk.identity;
  const last = disk.info.size - BigInt(unit);
  if (last < 0n) return;
  const middle = (last / 2n / BigInt(unit)) * BigInt(unit);
  for (const at of [0n, middle, (last / BigInt(unit)) * BigInt(unit)]) {
    const [hi, lo] = [high(at), low(at)];
    if (disk.isUncertain(hi, lo, unit)) continue;
    const block = engine.blocks.take(unit);
    disk.identity.expect(hi, lo);
    engine.command(operation, disk, NBD_CMD_READ, 0, hi, lo, unit, block, HEADROOM);
    yield;
    const isGood = operation.error === 0 && disk.identity.isAsExpected && !disk.isUncertain(hi, lo, unit);
    if (isGood) disk.identity.saw(hi, lo, unit, block.bytes, HEADROOM, true);
    engine.blocks.release(block);
    if (isGood || operation.error !== 0) return;
  }
}

/** Makes bytes [start, end) of the disk read back as zeros; it must be its turn. */
export function* zeroRange(
  engine: Engine,
  operation: Operation,
  disk: Disk,
  start: bigint,
  end: bigint,
  flags: number,
): Task {
  if (!goesOn(operation)) return;
  const minimum = BigInt(disk.minimum);
  const first = ((start + minimum - 1n) / minimum) * minimum;
  const last = end === disk.info.size ? end : (end / minimum) * minimum;
  if (first >= last) {
    yield* zeroBytes(engine, operation, disk, start, Number(end - start));
    return;
  }
  if (start < first) yield* zeroBytes(engine, operation, disk, start, Number(first - start));
  if (operation.error === 0 && last < end)
    yield* zeroBytes(engine, operation, disk, last, Number(end - last));
  if (operation.error !== 0) return;
  const tail = last === disk.info.size ? BigInt(disk.tail) : 0n;
  if (disk.can.zero) {
    yield* zeroBlocks(engine, operation, disk, first, last - tail, flags);
    yield* zeroBlocks(engine, operation, disk, last - tail, last, flags);
  } else yield* writeZeros(engine, operation, disk, first, last);
}

function* zeroBytes(engine: Engine, operation: Operation, disk: Disk, start: bigint, length: number): Task {
  yield* writeBytes(engine, operation, disk, 0, start, length, (block, at) => {
    block.bytes.fill(0, at, at + length);
  });
}

function* zeroBlocks(
  engine: Engine,
  operation: Operation,
  disk: Disk,
  first: bigint,
  last: bigint,
  flags: number,
): Task {
  let piece = BigInt(disk.info.extendedHeaders ? EXTENDED_ZERO_PIECE : ZERO_PIECE);
  const modest = BigInt(payloadLimit(effectiveBlockSizes(disk.info)));
  for (let at = first; at < last && goesOn(operation); ) {
    const from = at;
    for (let i = 0; i < ZERO_WINDOW && at < last; i++) {
      const count = Number(last - at < piece ? last - at : piece);
      // Without FAST_ZERO asked for, a server has no excuse to refuse: see docs/protocol-support.md.
      engine.command(operation, disk, NBD_CMD_WRITE_ZEROES, flags, high(at), low(at), count, undefined, 0);
      at += BigInt(count);
    }
    yield;
    // It may find what is longer than its largest payload too long: the same again, in pieces of that.
    if ((operation.error === EOVERFLOW || operation.error === EINVAL) && piece > modest) {
      operation.error = 0;
      piece = modest;
      at = from;
    }
  }
}

function* writeZeros(engine: Engine, operation: Operation, disk: Disk, first: bigint, last: bigint): Task {
  const zeros = engine.blocks.take(ZERO_DATA);
  zeros.bytes.fill(0, HEADROOM, HEADROOM + ZERO_DATA);
  for (let at = first; at < last && goesOn(operation); at += BigInt(ZERO_DATA)) {
    const count = last - at < BigInt(ZERO_DATA) ? Number(last - at) : ZERO_DATA;
    submitPieces(engine, operation, disk, NBD_CMD_WRITE, 0, high(at), low(at), count, zeros, HEADROOM);
    yield;
  }
  engine.blocks.release(zeros);
}

/** Answers SEEK_DATA (`data`) or SEEK_HOLE from `offset` on, by block status where the server has it. */
export function* seekExtent(
  engine: Engine,
  operation: Operation,
  disk: Disk,
  offset: bigint,
  data: boolean,
): Task {
  const size = disk.info.size;
  if (offset >= size) {
    operation.error = ENXIO;
    return;
  }
  const found = disk.extents;
  // In every mode the kernel holds what was written to a mapping.
  if (disk.writers > 0 && disk.can.allocation) {
    if (engine.kernelSendsWrites) {
      engine.awaitSync(operation, disk);
      yield;
    }
    if (!engine.kernelSendsWrites || disk.seekers.failed) {
      // There may be data that nobody here knows of.
      answerSeek(engine, operation, data ? offset : size);
      return;
    }
  }
  if (!disk.can.allocation) {
    answerSeek(engine, operation, data ? offset : size);
    return;
  }
  found.begin();
  let at = offset;
  let questions = 0;
  while (at < size) {
    let extent = found.at(at);
    if (extent === undefined && questions++ < SEEK_QUESTIONS) {
      askStatus(engine, operation, disk, at);
      yield;
      if (!goesOn(operation)) break;
      extent = found.at(at);
    }
    // A server that refuses to tell, or tells nothing of this byte, or too little at a time: all is
    // data from here on.
    if (extent === undefined || extent.hole !== data) {
      operation.error = 0;
      answerSeek(engine, operation, extent === undefined && !data ? size : at);
      return;
    }
    at = extent.end;
  }
  if (operation.error !== 0) {
    operation.error = 0;
    answerSeek(engine, operation, data ? at : size);
  } else if (data) operation.error = ENXIO;
  else answerSeek(engine, operation, size);
}

function askStatus(engine: Engine, operation: Operation, disk: Disk, at: bigint): void {
  const { start, length } = disk.extents.ask(at, disk.info.size);
  engine.command(operation, disk, NBD_CMD_BLOCK_STATUS, 0, high(start), low(start), length, undefined, 0);
}

/** Finds out how much of the disk is holes, with a bounded number of questions, for `st_blocks`. */
export function* scanHoles(engine: Engine, operation: Operation, disk: Disk): Task {
  const { size } = disk.info;
  for (let questions = 0; questions < SCAN_QUESTIONS; questions++) {
    const { known } = disk.extents.summary(size);
    if (known >= size) break;
    askStatus(engine, operation, disk, known);
    yield;
    const { holes, known: now } = disk.extents.summary(size);
    disk.node.blocks = (size - holes + 511n) / 512n;
    disk.lookedForHoles = true;
    if (operation.error !== 0 || now <= known) break;
  }
  disk.scanned = true;
}

function answerSeek(engine: Engine, operation: Operation, offset: bigint): void {
  if (operation.answered) return;
  engine.device.replySmall(writeLseekReply(engine.device.small, offset), operation);
  operation.answered = true;
}
