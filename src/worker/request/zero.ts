// FUSE_FALLOCATE: punching holes and zeroing. A disk has no other space to allocate.

import { ENOSPC, EOPNOTSUPP, EROFS } from '../../constants/errno.js';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from '../../fuse/constants.js';
import {
  FALLOCATE_LENGTH,
  FALLOCATE_MODE,
  FALLOCATE_OFFSET,
  HOST_ENDIAN,
  IN_UID,
} from '../../fuse/layout.js';
import { killSetId } from '../../fuse/tree.js';
import { splitAtBlocks } from '../../nbd/block-rules.js';
import type { ByteRange } from '../../nbd/byte-range.js';
import { NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../nbd/constants.js';
import { effectiveBlockSizes, payloadLimit } from '../../nbd/export-info.js';
import { setRange } from '../disk/changes.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, REQUEST_STATUS_ONLY, type Task } from '../flight/fuse-request.js';
import { HEADROOM } from '../memory/buffer-pool.js';
import { highHalf, lowHalf } from '../memory/u64.js';
import type { Engine } from './engine.js';
import type { PrefetchedBytes } from './read.js';
import { writeBytes } from './write.js';

/** WRITE_ZEROES in flight for one request. */
const WINDOW = 4;

/** Bytes of zeros in one WRITE to a server without WRITE_ZEROES. */
const ZERO_DATA = 1024 * 1024;

/** Bytes to zero. @property flags of NBD_CMD_WRITE_ZEROES */
interface ZeroRange extends ByteRange {
  readonly flags: number;
}

/** Begins the FUSE_FALLOCATE in the device's buffer. */
export function startFallocate(
  engine: Engine,
  prefetched: PrefetchedBytes | undefined,
  disk: Disk,
  view: DataView,
): void {
  const start = view.getBigUint64(FALLOCATE_OFFSET, HOST_ENDIAN);
  const length = view.getBigUint64(FALLOCATE_LENGTH, HOST_ENDIAN);
  const mode = view.getUint32(FALLOCATE_MODE, HOST_ENDIAN);
  const request = engine.beginFor(REQUEST_STATUS_ONLY, disk, view);
  if (engine.trace !== undefined) request.about = { offset: start, length, mode };
  const kind = mode & ~FALLOC_FL_KEEP_SIZE;
  const beyondEnd = start + length > disk.info.size;
  const end = beyondEnd ? disk.info.size : start + length;
  if (kind !== FALLOC_FL_PUNCH_HOLE && kind !== FALLOC_FL_ZERO_RANGE) request.fail(EOPNOTSUPP);
  else if (disk.node.readOnly) request.fail(EROFS);
  else if (beyondEnd && mode === FALLOC_FL_ZERO_RANGE) request.fail(ENOSPC);
  else if (start < end) {
    // The kernel leaves this to us, and does not say whether the caller may keep the bits.
    if (view.getUint32(IN_UID, HOST_ENDIAN) !== 0) killSetId(disk.node);
    const flags = kind === FALLOC_FL_ZERO_RANGE ? NBD_CMD_FLAG_NO_HOLE : 0;
    prefetched?.dropAll(disk);
    request.task = zeroInTurn(engine, request, disk, { start, end, flags });
    setRange(request, Number(start), Number(end), disk.minimum);
    if (!disk.order.enter(request)) request.waitForOne();
  }
  engine.settle(request);
}

/** Makes a range read as zeros, at the request's turn. */
function* zeroInTurn(engine: Engine, request: FuseRequest, disk: Disk, range: ZeroRange): Task {
  if (!request.goesOn) return;
  const { edges, whole } = splitAtBlocks(range, disk.blocks);
  if (whole === undefined) {
    yield* zeroBytes(engine, request, disk, range);
    return;
  }
  for (const { part } of edges) {
    yield* zeroBytes(engine, request, disk, part);
    if (request.error !== 0) return;
  }
  if (!disk.can.zero) yield* writeZeros(engine, request, disk, whole);
  else yield* zeroBlocks(engine, request, disk, { ...whole, flags: range.flags });
}

/** Zeroes bytes within one or two blocks. */
function zeroBytes(engine: Engine, request: FuseRequest, disk: Disk, { start, end }: ByteRange): Task {
  const length = Number(end - start);
  return writeBytes(engine, request, disk, {
    flags: 0,
    start,
    length,
    fill: (buffer, at) => {
      buffer.bytes.fill(0, at, at + length);
    },
  });
}

function* zeroBlocks(engine: Engine, request: FuseRequest, disk: Disk, range: ZeroRange): Task {
  const payload = payloadLimit(effectiveBlockSizes(disk.info));
  const rounds = disk.changeLength.rounds(range, disk.blocks, payload, WINDOW);
  let round = rounds.next();
  while (round.done !== true && request.goesOn) {
    for (const { offset, length } of round.value) {
      // Never with FAST_ZERO: docs/reference/protocol.md says why.
      const command = engine.command(request, disk, NBD_CMD_WRITE_ZEROES);
      command.flags = range.flags;
      command.setPlace(highHalf(offset), lowHalf(offset), length);
      engine.submit(command, disk);
    }
    yield;
    round = rounds.next(request.takeError());
    if (round.done === true) request.fail(round.value);
  }
}

function* writeZeros(engine: Engine, request: FuseRequest, disk: Disk, { start, end }: ByteRange): Task {
  const zeros = engine.buffers.take(ZERO_DATA);
  zeros.bytes.fill(0, HEADROOM, HEADROOM + ZERO_DATA);
  for (let at = start; at < end && request.goesOn; at += BigInt(ZERO_DATA)) {
    const command = engine.command(request, disk, NBD_CMD_WRITE);
    const count = end - at < BigInt(ZERO_DATA) ? Number(end - at) : ZERO_DATA;
    command.setPlace(highHalf(at), lowHalf(at), count);
    command.setPayload(zeros, HEADROOM);
    engine.submit(command, disk);
    yield;
  }
  engine.buffers.release(zeros);
}
