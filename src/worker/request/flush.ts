// FUSE_FSYNC, and writes that must be durable before their reply.

import { NBD_CMD_FLUSH } from '../../nbd/constants.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, REQUEST_STATUS_ONLY, type Task } from '../flight/fuse-request.js';
import type { Engine } from './engine.js';

/** Begins a FUSE_FSYNC: makes every answered write durable. */
export function startFsync(engine: Engine, disk: Disk, view: DataView): void {
  const request = engine.beginFor(REQUEST_STATUS_ONLY, disk, view);
  request.task = flushDisk(engine, request, disk);
  engine.settle(request);
}

/** Steps of a write that must be durable before its reply, on a server that has FLUSH but no FUA. */
export function* flushAfter(engine: Engine, request: FuseRequest, disk: Disk, write: Task | undefined): Task {
  if (write !== undefined) yield* write;
  if (!request.goesOn) return;
  engine.submit(engine.command(request, disk, NBD_CMD_FLUSH), disk);
  yield;
}

/** The FLUSH may wait for a server that comes back without acknowledged writes: fsync reports that loss. */
function* flushDisk(engine: Engine, request: FuseRequest, disk: Disk): Task {
  if (disk.can.flush) engine.submit(engine.command(request, disk, NBD_CMD_FLUSH), disk);
  yield;
  if (request.goesOn) request.fail(disk.takeLossError());
}
