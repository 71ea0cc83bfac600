// One run of bytes as the commands that the server's largest payload makes of it.

import { NBD_CMD_READ } from '../../nbd/constants.js';
import type { Disk } from '../disk/disk.js';
import type { FuseRequest } from '../flight/fuse-request.js';
import { HEADROOM, type PooledBuffer } from '../memory/buffer-pool.js';
import { addHi, addLo, distance } from '../memory/u64.js';
import type { Engine } from './engine.js';

/**
 * Submits `length` bytes at (hi, lo) in pieces of the server's largest payload. A last block that is less
 * than one goes by itself: the server may refuse it, and only it.
 */
export function submitSplit(
  engine: Engine,
  request: FuseRequest,
  disk: Disk,
  type: number,
  flags: number,
  hi: number,
  lo: number,
  length: number,
  buffer: PooledBuffer | undefined,
  bufferAt: number,
): void {
  let at = 0;
  while (at < length) {
    let count = Math.min(length - at, disk.maximum);
    if (disk.tail > 0 && count > disk.tail) {
      const left = distance(disk.sizeHi, disk.sizeLo, addHi(hi, lo, at), addLo(lo, at));
      if (left === count) count -= disk.tail;
    }
    engine.command(
      request,
      disk,
      type,
      flags,
      addHi(hi, lo, at),
      addLo(lo, at),
      count,
      buffer,
      bufferAt + at,
    );
    at += count;
  }
}

/** Bytes of `size` at (hi, lo) that lie on the disk. */
export function onDisk(disk: Disk, hi: number, lo: number, size: number): number {
  return Math.max(0, Math.min(size, distance(disk.sizeHi, disk.sizeLo, hi, lo)));
}

/** Submits what a READ of the kernel asks for: rounded out to the blocks that the server can read. */
export function readFromServer(engine: Engine, request: FuseRequest, disk: Disk): void {
  const { offsetHi: hi, offsetLo: lo, length } = request;
  const mask = disk.minimum - 1;
  const before = lo & mask;
  const after = onDisk(disk, addHi(hi, lo, length), addLo(lo, length), -(before + length) & mask);
  if (before + after > 0) {
    request.buffer = engine.buffers.take(before + length + after);
    request.bufferAt = HEADROOM + before;
  }
  const whole = before + length + after;
  submitSplit(engine, request, disk, NBD_CMD_READ, 0, hi, lo - before, whole, undefined, HEADROOM);
}
