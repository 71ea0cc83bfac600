// One request of the kernel (or of our own) that needs the server, from its arrival to its reply.
//
// A request owns one block of data at most and waits for any number of commands. The plain READ
// and WRITE of one command each are answered at once when it is done; everything that takes several
// steps is a generator (`task`), taken up again whenever all commands that it waits for are done.

import { FUSE_FALLOCATE } from '../../fuse/constants.js';
import type { LogFields } from '../../linux/log-line.js';
import type { Requester } from '../device/device.js';
import type { Disk } from '../disk/disk.js';
import { assert } from '../memory/assert.js';
import type { PooledBuffer } from '../memory/buffer-pool.js';
import { distance } from '../memory/u64.js';

/** Nobody waits: the bridge's own doing. */
export const BACKGROUND_FLUSH = 0;
export const REQUEST_READ = 1;
export const REQUEST_WRITE = 2;
/** Answered with a header alone: FSYNC, FALLOCATE. */
export const REQUEST_STATUS_ONLY = 3;
/** Its task writes the reply's body itself. */
export const REQUEST_OWN_REPLY = 4;

/** Finding out about holes and reading ahead: nobody waits for it, and nothing is lost without it. */
export const SPECULATIVE = 5;

/** It has asked for no order, or needs none any more. */
export const ORDER_NONE = 0;
/** It waits until what it overlaps is over. */
export const ORDER_WAITS = 1;
/** It is a change that holds its bytes. */
export const ORDER_HOLDS = 2;

/** The `pid` of a request for whose reply no thread waits. */
export const NO_THREAD = -1;

/** The steps of a request: each `yield` waits until no command of the request is left. */
export type Task = Generator<void, void, void>;

/** Reused, never freed. Fields are as in a new one when it is taken. */
export class FuseRequest implements Requester {
  kind = BACKGROUND_FLUSH;
  opcode = 0;
  descriptor = -1;
  uniqueLo = 0;
  uniqueHi = 0;
  /** The thread that waits for the reply, as we see it; 0 when it is in another namespace, NOBODY when none does. */
  pid = 0;
  disk: Disk | undefined = undefined;
  offsetHi = 0;
  offsetLo = 0;
  length = 0;
  /** See RangeOrder: its state, its number among the changes, and its bytes [start, end) rounded out to blocks. */
  order = ORDER_NONE;
  change = 0;
  rangeStart = 0;
  rangeEnd = 0;
  /** Whether its asker had a signal that could not be told. */
  interrupted = false;
  /** Data of a READ or WRITE; the payload's first byte is at `blockAt`. */
  buffer: PooledBuffer | undefined = undefined;
  bufferAt = 0;
  /** Commands that have not been answered. */
  pending = 0;
  /** The first errno of them. */
  error = 0;
  /** Whether the kernel has had its reply: then only the clean-up is left. */
  answered = false;
  task: Task | undefined = undefined;
  /** What a trace tells of it in the place of offset and length; set only when there is a trace. */
  about: LogFields | undefined = undefined;
  /** Milliseconds of the worker's clock at its arrival. */
  startedAt = 0;
  /** Its place in the table while in use, -1 otherwise. */
  index = -1;
}

/** Whether the kernel has asked for it. */
function isAsked({ kind }: FuseRequest): boolean {
  return kind !== BACKGROUND_FLUSH && kind !== SPECULATIVE;
}

/** All requests under way, so that an interrupted one can be found. */
export class FuseRequestTable {
  readonly #active: FuseRequest[] = [];
  readonly #free: FuseRequest[] = [];

  get count(): number {
    return this.#active.length;
  }

  /** Whether there are others than those that may be left undone. */
  get busy(): boolean {
    return this.#active.some(({ kind }) => kind !== SPECULATIVE);
  }

  /** Whether anything is under way on a disk. */
  uses(disk: Disk): boolean {
    return this.#active.some((one) => one.disk === disk);
  }

  /** How many requests of the kernel are under way on a disk. */
  asked(disk: Disk): number {
    return this.#active.filter((one) => one.disk === disk && isAsked(one)).length;
  }

  /** Whether anything is under way that changes some of `length` bytes at (hi, lo) of a disk. */
  changing(disk: Disk, hi: number, lo: number, length: number): boolean {
    for (const one of this.#active) {
      if (one.disk !== disk) continue;
      if (one.opcode === FUSE_FALLOCATE) return true;
      if (one.kind !== REQUEST_WRITE) continue;
      const ahead = distance(one.offsetHi, one.offsetLo, hi, lo);
      if (ahead < length && ahead + one.length > 0) return true;
    }
    return false;
  }

  /** What the kernel has asked for before `time` and has no reply to. */
  unansweredSince(time: number): FuseRequest[] {
    return this.#active.filter((one) => isAsked(one) && !one.answered && one.startedAt < time);
  }

  take(): FuseRequest {
    const request = this.#free.pop() ?? new FuseRequest();
    request.index = this.#active.length;
    this.#active.push(request);
    return request;
  }

  release(request: FuseRequest): void {
    assert(request.index >= 0 && request.pending <= 0, 'an operation ends once, with nothing pending');
    const last = this.#active.pop();
    if (last !== undefined && last !== request) {
      this.#active[request.index] = last;
      last.index = request.index;
    }
    request.kind = BACKGROUND_FLUSH;
    request.opcode = 0;
    request.uniqueLo = 0;
    request.uniqueHi = 0;
    request.pid = 0;
    request.disk = undefined;
    request.buffer = undefined;
    request.bufferAt = 0;
    request.pending = 0;
    request.error = 0;
    request.answered = false;
    request.task = undefined;
    request.about = undefined;
    request.change = 0;
    request.interrupted = false;
    request.index = -1;
    this.#free.push(request);
  }

  /** The request that answers the kernel's request `unique`. */
  find(uniqueHi: number, uniqueLo: number): FuseRequest | undefined {
    return this.#active.find((one) => one.uniqueLo === uniqueLo && one.uniqueHi === uniqueHi && isAsked(one));
  }
}
