// The kernel's READ, WRITE, FSYNC, FALLOCATE and LSEEK, made into requests and commands.
//
// Called by the dispatcher with the request still in the device's block. READs and WRITEs that keep
// to the server's block sizes go out as they are, in as many commands as its largest payload asks
// for; the others take the way over tasks.ts.

import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  FUSE_WRITE_CACHE,
  FUSE_WRITE_KILL_SUIDGID,
  SEEK_DATA,
  SEEK_HOLE,
} from '../../fuse/constants.js';
import {
  FALLOCATE_LENGTH,
  FALLOCATE_MODE,
  FALLOCATE_OFFSET,
  HOST_ENDIAN,
  IN_OPCODE,
  IN_PID,
  IN_UID,
  IN_UNIQUE_HI,
  IN_UNIQUE_LO,
  IO_FLAGS,
  IO_OFFSET_HI,
  IO_OFFSET_LO,
  IO_SIZE,
  LSEEK_OFFSET,
  LSEEK_WHENCE,
  WRITE_DATA,
} from '../../fuse/layout.js';
import { killSetId } from '../../fuse/tree.js';
import { EINVAL, EIO, ENOSPC, EOPNOTSUPP, EROFS } from '../../linux/errno.js';
import { libc } from '../../linux/libc.js';
import { O_DIRECT, O_DSYNC } from '../../linux/open-flags.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE } from '../../nbd/constants.js';
import { COPY_LIMIT, MAX_TRANSFER } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import { setRange } from '../disk/range-order.js';
import {
  type FuseRequest,
  NO_THREAD,
  REQUEST_OWN_REPLY,
  REQUEST_READ,
  REQUEST_STATUS_ONLY,
  REQUEST_WRITE,
} from '../flight/fuse-request.js';
import { HEADROOM } from '../memory/buffer-pool.js';
import { distance } from '../memory/u64.js';
import type { Engine } from './engine.js';
import type { Readahead } from './readahead.js';
import { onDisk, readFromServer, submitSplit } from './split.js';
import { flushAfter, flushDisk, readInTurn, seekExtent, writeInTurn, zeroRange } from './tasks.js';

/** Byte of `fuse_write_in` at which its write_flags lie, counted as in fuse/layout. */
const WRITE_FLAGS = IO_SIZE + 4;

/** Notes who asks, and about which bytes; the request is still where it was received. */
function ask(
  engine: Engine,
  request: FuseRequest,
  view: DataView,
  hi: number,
  lo: number,
  length: number,
): void {
  request.descriptor = engine.device.source;
  request.opcode = view.getUint32(IN_OPCODE, HOST_ENDIAN);
  request.uniqueLo = view.getUint32(IN_UNIQUE_LO, HOST_ENDIAN);
  request.uniqueHi = view.getUint32(IN_UNIQUE_HI, HOST_ENDIAN);
  request.pid = view.getUint32(IN_PID, HOST_ENDIAN);
  request.offsetHi = hi;
  request.offsetLo = lo;
  request.length = length;
}

/** FUSE_READ. O_DIRECT asks the server itself. */
export function startRead(engine: Engine, ahead: Readahead | undefined, disk: Disk, view: DataView): void {
  const hi = view.getUint32(IO_OFFSET_HI, HOST_ENDIAN);
  const lo = view.getUint32(IO_OFFSET_LO, HOST_ENDIAN);
  const length = onDisk(disk, hi, lo, view.getUint32(IO_SIZE, HOST_ENDIAN));
  const request = engine.begin(REQUEST_READ, disk);
  ask(engine, request, view, hi, lo, length);
  // FUSE_INIT has told the kernel a limit. Less than it asks for would pass for the end of the file.
  if (length > MAX_TRANSFER) {
    request.error = EIO;
    engine.settle(request);
    return;
  }
  if (length === 0) {
    request.answered = true;
    engine.device.replyError(0, request);
    engine.settle(request);
    return;
  }
  const cached = (view.getUint32(IO_FLAGS, HOST_ENDIAN) & O_DIRECT) === 0;
  if (disk.order.isChanging && !mayRead(request, disk)) {
    request.pending++;
    request.task = readInTurn(engine, request, disk);
  } else if (ahead === undefined || !cached || !ahead.read(request, disk))
    readFromServer(engine, request, disk);
  engine.settle(request);
}

function mayRead(request: FuseRequest, disk: Disk): boolean {
  const start = request.offsetHi * 2 ** 32 + request.offsetLo;
  setRange(request, start, start + request.length, disk.minimum);
  return disk.order.enterRead(request);
}

/** FUSE_WRITE; its data are behind the header, in the device's block. */
export function startWrite(engine: Engine, ahead: Readahead | undefined, disk: Disk, view: DataView): void {
  const hi = view.getUint32(IO_OFFSET_HI, HOST_ENDIAN);
  const lo = view.getUint32(IO_OFFSET_LO, HOST_ENDIAN);
  const asked = view.getUint32(IO_SIZE, HOST_ENDIAN);
  const writeFlags = view.getUint32(WRITE_FLAGS, HOST_ENDIAN);
  const cached = (writeFlags & FUSE_WRITE_CACHE) !== 0;
  const synchronous = !cached && (view.getUint32(IO_FLAGS, HOST_ENDIAN) & O_DSYNC) !== 0;
  const length = onDisk(disk, hi, lo, asked);
  const request = engine.begin(REQUEST_WRITE, disk);
  ask(engine, request, view, hi, lo, length);
  // Whoever made the page dirty does not wait for this, and must not end it.
  if (cached) request.pid = NO_THREAD;
  if (disk.node.readOnly) request.error = EROFS;
  // The kernel has taken bytes past the end into its cache and may not hear of a short write.
  else if (length === 0 ? asked > 0 : cached && length < asked) request.error = ENOSPC;
  if (length < asked && cached) engine.wroteBeyondEnd(disk);
  if (length > 0 && request.error !== EROFS) {
    if ((writeFlags & FUSE_WRITE_KILL_SUIDGID) !== 0) killSetId(disk.node);
    if (!engine.kernelHoldsWrites) disk.node.mtime = engine.system.wallClock.now();
    ahead?.drop(disk, hi, lo, length);
    takeData(engine, request);
    sendWrite(engine, request, disk, synchronous);
  }
  engine.settle(request);
}

/** Gives the request the data of the WRITE that lies in the device's block. */
function takeData(engine: Engine, request: FuseRequest): void {
  if (request.length > COPY_LIMIT) {
    request.buffer = engine.device.takeBuffer();
    request.bufferAt = WRITE_DATA;
    return;
  }
  const buffer = engine.buffers.take(request.length);
  libc.memcpy(buffer.address + HEADROOM, engine.device.buffer.address + WRITE_DATA, request.length);
  request.buffer = buffer;
  request.bufferAt = HEADROOM;
}

function sendWrite(engine: Engine, request: FuseRequest, disk: Disk, synchronous: boolean): void {
  const { offsetHi: hi, offsetLo: lo, length, buffer, bufferAt } = request;
  const mask = disk.minimum - 1;
  const before = lo & mask;
  const atEnd = distance(disk.sizeHi, disk.sizeLo, hi, lo) === length;
  const unaligned = before !== 0 || (((before + length) & mask) !== 0 && !atEnd);
  const flags = synchronous && disk.can.fua ? NBD_CMD_FLAG_FUA : 0;
  const start = hi * 2 ** 32 + lo;
  setRange(request, start, start + length, disk.minimum);
  const mayBegin = disk.order.enter(request);
  // One thing more to wait for, which its turn settles; the task then does the work.
  if (!mayBegin) request.pending++;
  if (unaligned || !mayBegin) request.task = writeInTurn(engine, request, disk, flags);
  else submitSplit(engine, request, disk, NBD_CMD_WRITE, flags, hi, lo, length, buffer, bufferAt);
  if (synchronous && flags === 0 && disk.can.flush)
    request.task = flushAfter(engine, request, disk, request.task);
}

/** FUSE_FSYNC: everything that the server has answered is on its stable storage afterwards. */
export function startFsync(engine: Engine, disk: Disk, view: DataView): void {
  const request = engine.begin(REQUEST_STATUS_ONLY, disk);
  ask(engine, request, view, 0, 0, 0);
  request.task = flushDisk(engine, request, disk);
  engine.settle(request);
}

/** FUSE_FALLOCATE: punching holes and zeroing; a disk has no other space to give. */
export function startFallocate(
  engine: Engine,
  ahead: Readahead | undefined,
  disk: Disk,
  view: DataView,
): void {
  const start = view.getBigUint64(FALLOCATE_OFFSET, HOST_ENDIAN);
  const length = view.getBigUint64(FALLOCATE_LENGTH, HOST_ENDIAN);
  const mode = view.getUint32(FALLOCATE_MODE, HOST_ENDIAN);
  const request = engine.begin(REQUEST_STATUS_ONLY, disk);
  ask(engine, request, view, 0, 0, 0);
  if (engine.trace !== undefined) request.about = { offset: start, length, mode };
  const kind = mode & ~FALLOC_FL_KEEP_SIZE;
  const end = start + length;
  const beyondEnd = end > disk.info.size;
  const limited = beyondEnd ? disk.info.size : end;
  if (kind !== FALLOC_FL_PUNCH_HOLE && kind !== FALLOC_FL_ZERO_RANGE) request.error = EOPNOTSUPP;
  else if (disk.node.readOnly) request.error = EROFS;
  else if (beyondEnd && mode === FALLOC_FL_ZERO_RANGE) request.error = ENOSPC;
  else if (start < limited) {
    // The kernel leaves this to us, and does not say whether the caller may keep the bits.
    if (view.getUint32(IN_UID, HOST_ENDIAN) !== 0) killSetId(disk.node);
    const flags = kind === FALLOC_FL_ZERO_RANGE ? NBD_CMD_FLAG_NO_HOLE : 0;
    ahead?.dropAll(disk);
    request.task = zeroRange(engine, request, disk, start, limited, flags);
    setRange(request, Number(start), Number(limited), disk.minimum);
    if (!disk.order.enter(request)) request.pending++;
  }
  engine.settle(request);
}

/** FUSE_LSEEK: SEEK_DATA and SEEK_HOLE. */
export function startLseek(engine: Engine, disk: Disk, view: DataView): void {
  const offset = view.getBigUint64(LSEEK_OFFSET, HOST_ENDIAN);
  const whence = view.getUint32(LSEEK_WHENCE, HOST_ENDIAN);
  const request = engine.begin(REQUEST_OWN_REPLY, disk);
  ask(engine, request, view, 0, 0, 0);
  if (engine.trace !== undefined) request.about = { offset, whence };
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) request.error = EINVAL;
  else request.task = seekExtent(engine, request, disk, offset, whence === SEEK_DATA);
  engine.settle(request);
}
