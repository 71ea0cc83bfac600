// FUSE_LSEEK: SEEK_DATA and SEEK_HOLE by NBD_CMD_BLOCK_STATUS.

import { EINVAL, ENXIO } from '../../constants/errno.js';
import { SEEK_DATA, SEEK_HOLE } from '../../fuse/constants.js';
import { HOST_ENDIAN, LSEEK_OFFSET, LSEEK_WHENCE } from '../../fuse/layout.js';
import { writeLseekReply } from '../../fuse/reply.js';
import type { ByteRange } from '../../nbd/byte-range.js';
import { NBD_CMD_BLOCK_STATUS } from '../../nbd/constants.js';
import { statusRequest } from '../../nbd/extents.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, REQUEST_OWN_REPLY, type Task } from '../flight/fuse-request.js';
import { highHalf, lowHalf } from '../memory/u64.js';
import type { Engine } from './engine.js';

/** Most BLOCK_STATUS commands of one LSEEK: 4 TiB with compact headers, if each is answered in full. */
const SEEK_COMMANDS = 1024;

/** A search in some bytes of a disk. */
interface Search {
  /** Whether it looks for data. */
  readonly data: boolean;
  /** The byte of the disk at which it begins. */
  readonly from: bigint;
  /** The bytes of the disk that the file shows: their start is offset 0 of the reply. */
  readonly shown: ByteRange;
}

/** Begins the FUSE_LSEEK in the device's buffer. @param shown the bytes of the disk that the file shows */
export function startLseek(engine: Engine, disk: Disk, view: DataView, shown: ByteRange): void {
  const offset = view.getBigUint64(LSEEK_OFFSET, HOST_ENDIAN);
  const whence = view.getUint32(LSEEK_WHENCE, HOST_ENDIAN);
  const request = engine.beginFor(REQUEST_OWN_REPLY, disk, view);
  if (engine.trace !== undefined) request.about = { offset, whence };
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) request.fail(EINVAL);
  else
    request.task = seekExtent(engine, request, disk, {
      data: whence === SEEK_DATA,
      from: shown.start + offset,
      shown,
    });
  engine.settle(request);
}

/** Steps of SEEK_DATA or SEEK_HOLE. */
function* seekExtent(engine: Engine, request: FuseRequest, disk: Disk, search: Search): Task {
  const { data, from, shown } = search;
  const { end } = shown;
  const answer = (at: bigint): void => answerSeek(engine, request, at - shown.start);
  if (from >= end) {
    request.fail(ENXIO);
    return;
  }
  // The kernel caches writes through a mapping in every cache mode.
  const isWritten = disk.writers > 0;
  if (isWritten && disk.can.allocation && engine.kernelSendsWrites) {
    engine.awaitSync(request, disk);
    yield;
  }
  const mayHold = isWritten && (!engine.kernelSendsWrites || disk.pendingLseeks.failed);
  if (!disk.can.allocation || mayHold) {
    // Any byte may be dirty in the kernel's page cache.
    answer(data ? from : end);
    return;
  }
  const { extents } = disk;
  extents.begin(engine.now());
  let at = from;
  let commands = 0;
  while (at < end) {
    let extent = extents.at(at);
    if (extent === undefined && commands++ < SEEK_COMMANDS) {
      askStatus(engine, request, disk, at);
      yield;
      if (!request.goesOn) break;
      extent = extents.at(at);
    }
    // Where block status is unknown, or after too many commands, the rest counts as data.
    if (extent === undefined || extent.hole !== data) {
      request.takeError();
      answer(extent === undefined && !data ? end : at);
      return;
    }
    at = extent.end;
  }
  if (request.takeError() !== 0) {
    answer(data ? at : end);
  } else if (data) request.fail(ENXIO);
  else answer(end);
}

/** Sends a BLOCK_STATUS for the bytes from `at` on. */
export function askStatus(engine: Engine, request: FuseRequest, disk: Disk, at: bigint): void {
  const { size, extendedHeaders } = disk.info;
  const { offset, length } = statusRequest({ start: at, end: size }, disk.blocks, extendedHeaders);
  const command = engine.command(request, disk, NBD_CMD_BLOCK_STATUS);
  command.setPlace(highHalf(offset), lowHalf(offset), length);
  engine.submit(command, disk);
}

function answerSeek(engine: Engine, request: FuseRequest, offset: bigint): void {
  if (request.answered) return;
  request.markAnswered();
  engine.device.replySmall(writeLseekReply(engine.device.small, offset), request);
}
