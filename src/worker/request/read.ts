// FUSE_READ: sends NBD_CMD_READs for the kernel's request.

import { EIO } from '../../constants/errno.js';
import { O_DIRECT } from '../../constants/open-flags.js';
import { HOST_ENDIAN, IO_FLAGS } from '../../fuse/layout.js';
import { wideLength } from '../../nbd/block-rules.js';
import { NBD_CMD_READ } from '../../nbd/constants.js';
import { MAX_TRANSFER } from '../device/device.js';
import { setRange } from '../disk/changes.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, REQUEST_READ, type Task } from '../flight/fuse-request.js';
import { assertSlowly } from '../memory/assert.js';
import { HEADROOM } from '../memory/buffer-pool.js';
import { distance, toDouble } from '../memory/u64.js';
import type { Engine } from './engine.js';

/** Data that were read ahead: see Readahead. */
export interface PrefetchedBytes {
  /** Answers a READ that is pending once, now or later. False: the caller must ask the server. */
  read(request: FuseRequest, disk: Disk): boolean;
  /** Drops data that are about to change. */
  drop(disk: Disk, hi: number, lo: number, length: number): void;
  dropAll(disk: Disk): void;
}

/** The places that may answer a READ before the server. */
export interface ReadPlaces {
  readonly prefetched: PrefetchedBytes | undefined;
  /** Answers a READ that is pending once. False: the caller must ask the server. */
  readonly kept: { read(request: FuseRequest, disk: Disk): boolean } | undefined;
}

/** Begins the FUSE_READ in the device's buffer. An O_DIRECT read gets nothing that was read ahead. */
export function startRead(
  engine: Engine,
  { prefetched, kept }: ReadPlaces,
  disk: Disk,
  view: DataView,
): void {
  const request = engine.beginTransfer(REQUEST_READ, disk, view);
  const { length } = request;
  // FUSE_INIT has set this limit. The kernel would take a shorter reply for the end of the file.
  if (length > MAX_TRANSFER) {
    request.fail(EIO);
    engine.settle(request);
    return;
  }
  if (length === 0) {
    request.markAnswered();
    engine.device.replyError(0, request);
    engine.settle(request);
    return;
  }
  const cached = (view.getUint32(IO_FLAGS, HOST_ENDIAN) & O_DIRECT) === 0;
  if (disk.order.isChanging && !mayRead(request, disk)) {
    request.waitForOne();
    request.task = readInTurn(engine, request, disk);
  } else if (kept?.read(request, disk) !== true && !(cached && prefetched?.read(request, disk) === true))
    readFromServer(engine, request, disk);
  engine.settle(request);
}

function mayRead(request: FuseRequest, disk: Disk): boolean {
  const start = toDouble(request.offsetHi, request.offsetLo);
  setRange(request, start, start + request.length, disk.minimum);
  const mayStart = disk.order.enterRead(request);
  assertSlowly(() => !mayStart || !disk.order.overlapsChange(request), 'a READ waits for changes in flight');
  return mayStart;
}

/** Steps of a READ that has waited for overlapping changes. */
function* readInTurn(engine: Engine, request: FuseRequest, disk: Disk): Task {
  if (!request.goesOn) return;
  readFromServer(engine, request, disk);
  yield;
}

/** Reads the bytes of a READ from the server, rounded out to its minimum block size. */
export function readFromServer(engine: Engine, request: FuseRequest, disk: Disk): void {
  const { offsetHi: hi, offsetLo: lo, length } = request;
  const before = lo & (disk.minimum - 1);
  const left = distance(disk.sizeHi, disk.sizeLo, hi, lo);
  const whole = wideLength(before, length, left, disk.minimum);
  if (whole > length) {
    request.setPayload(engine.buffers.take(whole), HEADROOM + before);
  }
  const command = engine.command(request, disk, NBD_CMD_READ);
  command.setPlace(hi, lo - before, whole);
  engine.submit(command, disk);
}
