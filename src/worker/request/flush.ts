// FUSE_FSYNC, and writes that must be durable before their reply.

import { FILE_HANDLE, HOST_ENDIAN } from '../../fuse/layout.js';
import { NBD_CMD_FLUSH } from '../../nbd/constants.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, REQUEST_STATUS_ONLY, type Task } from '../flight/fuse-request.js';
import type { Engine } from './engine.js';

/** Begins a FUSE_FSYNC: makes every answered write durable. */
export function startFsync(engine: Engine, disk: Disk, view: DataView): void {
  const request = engine.beginFor(REQUEST_STATUS_ONLY, disk, view);
  request.task = flushDisk(engine, request, disk, handleIn(view));
  engine.settle(request);
}

/** The file handle of a FUSE_FSYNC or FUSE_WRITE. */
export function handleIn(view: DataView): number {
  return Number(view.getBigUint64(FILE_HANDLE, HOST_ENDIAN));
}

/** Steps of a write that must be durable before its reply, on a server that has FLUSH but no FUA. */
export function* flushAfter(
  engine: Engine,
  request: FuseRequest,
  disk: Disk,
  write: Task | undefined,
  handle: number,
): Task {
  if (write !== undefined) yield* write;
  if (!request.goesOn) return;
  yield* flush(engine, request, disk, handle);
}

/** The FLUSH may wait for a server that comes back without acknowledged writes: fsync reports that loss. */
function* flushDisk(engine: Engine, request: FuseRequest, disk: Disk, handle: number): Task {
  if (disk.can.flush) yield* flush(engine, request, disk, handle);
  else request.fail(disk.takeError(handle));
}

/** Steps of a FLUSH that reports to the requester's handle: this FLUSH's failure, or an error that it does not know. */
function* flush(engine: Engine, request: FuseRequest, disk: Disk, handle: number): Task {
  engine.submit(engine.command(request, disk, NBD_CMD_FLUSH), disk);
  yield;
  const { error, answered } = request;
  // Without a server there is no loss: a replay sends the unflushed writes to the next one.
  if (error !== 0 && disk.failing !== 0) return;
  if (error !== 0) disk.reportFailedFlush(error);
  // The first error stays: that of this FLUSH.
  if (!answered) request.fail(disk.takeError(handle));
}
