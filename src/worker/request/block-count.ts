// Counts the allocated bytes of a disk by NBD_CMD_BLOCK_STATUS, for `st_blocks`.

import { type ByteRange, intersection } from '../../nbd/byte-range.js';
import type { Disk } from '../disk/disk.js';
import type { Run } from '../disk/extent-map.js';
import type { FuseRequest, Task } from '../flight/fuse-request.js';
import type { Engine } from './engine.js';
import { askStatus } from './seek.js';

/** Most BLOCK_STATUS commands of the first count, for which nobody waits: 4 TiB, if each is answered in full. */
export const FIRST_COUNT = 1024;

/** Most BLOCK_STATUS commands of a count for a stat(2): 64 TiB with compact headers, if each is answered in full. */
export const WHOLE_COUNT = 16_384;

/** Most milliseconds of a count. The rest of the disk then counts as data. */
const COUNT_TIME = 60_000;

/** Adds the holes of a counted range to the parts of the disk that share bytes with it. */
function addToParts(disk: Disk, counted: ByteRange, run: (from: bigint, to: bigint) => Run): void {
  for (const part of disk.parts) {
    const { start, end } = intersection(counted, part);
    if (start < end) part.holes += run(start, end).holes;
  }
}

/** Steps of a count with at most so many commands. The first one updates `st_blocks` at each step. */
export function* countBlocks(engine: Engine, request: FuseRequest, disk: Disk, most: number): Task {
  const { size } = disk.info;
  const { allocation, extents } = disk;
  const { changes } = allocation;
  const until = engine.now() + COUNT_TIME;
  extents.begin(engine.now());
  extents.recordReplies(true);
  let { holes, end } = extents.run(0n, size);
  for (const part of disk.parts) part.holes = 0n;
  addToParts(disk, { start: 0n, end }, (from, to) => extents.run(from, to));
  for (let commands = 0; end < size && commands < most && engine.now() < until; commands++) {
    askStatus(engine, request, disk, end);
    yield;
    if (request.error !== 0) break;
    // Changes may keep a reply out of the map, which never has an old hole. A count may: another one follows.
    const reply = extents.repliedRun(end, size);
    const known = extents.run(reply.end, size);
    if (known.end <= end) break;
    holes += reply.holes + known.holes;
    addToParts(disk, { start: end, end: reply.end }, (from, to) => extents.repliedRun(from, to));
    addToParts(disk, { start: reply.end, end: known.end }, (from, to) => extents.run(from, to));
    end = known.end;
    if (!allocation.isCounted) disk.foundHoles(holes);
  }
  extents.recordReplies(false);
  disk.foundHoles(holes);
  if (end < size && most < WHOLE_COUNT) allocation.countedPart();
  else allocation.counted(changes, engine.now());
}
