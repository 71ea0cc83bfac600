// The counts of allocated blocks, and the GETATTRs that wait for one: `st_blocks` must be true after a write.
//
// The dispatcher offers it each GETATTR of stat(2). One count of a disk runs at a time. Never blocks: a GETATTR waits for
// a limited time, and then gets what the counts found so far.

import { HOST_ENDIAN, IN_NODEID_LO } from '../../fuse/layout.js';
import type { Disk } from '../disk/disk.js';
import { type FuseRequest, REQUEST_OWN_REPLY, SPECULATIVE, type Task } from '../flight/fuse-request.js';
import { countBlocks, FIRST_COUNT, WHOLE_COUNT } from '../request/block-count.js';
import type { Engine } from '../request/engine.js';
import type { Metadata } from './metadata.js';

/** Maximum milliseconds that the first use of a file waits for its first BLOCK_STATUS, and a stat(2) for a count. */
export const FIRST_STATUS_TIME = 250;

interface WaitingGetattr {
  readonly request: FuseRequest;
  readonly disk: Disk;
  readonly nodeid: number;
  /** The last change that the count must include: see Allocation. */
  readonly change: number;
  /** Milliseconds. */
  readonly until: number;
}

/** See the file's head. */
export class BlockCounts {
  readonly #engine: Engine;
  readonly #metadata: Metadata;
  readonly #counting = new Set<Disk>();
  #waiting: WaitingGetattr[] = [];

  constructor(engine: Engine, metadata: Metadata) {
    this.#engine = engine;
    this.#metadata = metadata;
  }

  /** Begins the first count of a disk, unless there was one. */
  begin(disk: Disk): void {
    if (disk.can.allocation && !disk.allocation.isCounted) this.#count(disk, FIRST_COUNT);
  }

  /** Takes the GETATTR in the device's buffer if it must wait for a count. False: the attributes are true. */
  takes(disk: Disk, view: DataView): boolean {
    const { allocation } = disk;
    const now = this.#engine.now();
    if (!disk.can.allocation || allocation.isTrue(now)) return false;
    if (disk.waiting) {
      disk.mayHaveData();
      return false;
    }
    allocation.expire(now);
    const request = this.#engine.beginFor(REQUEST_OWN_REPLY, disk, view);
    if (this.#engine.trace !== undefined) request.about = {};
    const nodeid = view.getUint32(IN_NODEID_LO, HOST_ENDIAN);
    this.#waiting.push({ request, disk, nodeid, change: allocation.changes, until: now + FIRST_STATUS_TIME });
    this.#count(disk, WHOLE_COUNT);
    return true;
  }

  /** Milliseconds until the next due call of `look`; -1: none. */
  get patience(): number {
    if (this.#waiting.length === 0) return -1;
    return Math.max(1, Math.min(...this.#waiting.map(({ until }) => until)) - this.#engine.now());
  }

  /** Answers the requests that have waited long enough. */
  look(now: number): void {
    if (this.#waiting.length > 0) this.#answer(({ until }) => until <= now);
  }

  #count(disk: Disk, most: number): void {
    if (this.#counting.has(disk)) return;
    this.#counting.add(disk);
    const request = this.#engine.begin(SPECULATIVE, disk);
    this.#engine.run(request, this.#steps(request, disk, most));
  }

  *#steps(request: FuseRequest, disk: Disk, most: number): Task {
    yield* countBlocks(this.#engine, request, disk, most);
    this.#counting.delete(disk);
    this.#answer((one) => one.disk === disk && disk.allocation.includes(one.change));
    if (this.#waiting.some((one) => one.disk === disk)) this.#count(disk, WHOLE_COUNT);
  }

  #answer(isDue: (one: WaitingGetattr) => boolean): void {
    const due = this.#waiting.filter(isDue);
    this.#waiting = this.#waiting.filter((one) => !due.includes(one));
    for (const { request, disk, nodeid, change } of due) {
      if (!disk.allocation.includes(change)) disk.mayHaveData();
      // A signal may have ended the requester.
      if (!request.answered) {
        request.markAnswered();
        this.#metadata.getattr(nodeid, false, request);
      }
      this.#engine.settle(request);
    }
  }
}
