// One run of bytes as the commands that the server's largest payload makes of it.

import type { Block } from './blocks.js';
import type { Disk } from './disk.js';
import type { Engine } from './engine.js';
import { addHi, addLo } from './offsets.js';
import type { Operation } from './operation.js';

/** Submits `length` bytes at (hi, lo) in pieces of the server's largest payload. */
export function submitPieces(
  engine: Engine,
  operation: Operation,
  disk: Disk,
  type: number,
  flags: number,
  hi: number,
  lo: number,
  length: number,
  block: Block | undefined,
  blockAt: number,
): void {
  let at = 0;
  while (at < length) {
    const count = Math.min(length - at, disk.maximum);
    engine.command(
      operation,
      disk,
      type,
      flags,
      addHi(hi, lo, at),
      addLo(lo, at),
      count,
      block,
      blockAt + at,
    );
    at += count;
  }
}
