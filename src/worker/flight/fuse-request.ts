// One FUSE request (or one of our own) that needs the server, from its arrival to its reply.
//
// A request owns at most one buffer and waits for any number of commands. A plain READ or WRITE is answered when its
// commands are done. A request of several steps has a generator (`task`), which resumes when no command is left.

import { FUSE_FALLOCATE } from '../../fuse/constants.js';
import { HOST_ENDIAN, IN_OPCODE, IN_PID, IN_UNIQUE_HI, IN_UNIQUE_LO } from '../../fuse/layout.js';
import type { LogFields } from '../../linux/log-line.js';
import type { Requester } from '../device/device.js';
import { assert } from '../memory/assert.js';
import type { PooledBuffer } from '../memory/buffer-pool.js';
import { distance } from '../memory/u64.js';

/** A FLUSH of our own: no program waits for it. */
export const BACKGROUND_FLUSH = 0;
export const REQUEST_READ = 1;
export const REQUEST_WRITE = 2;
/** The reply is a header: FSYNC, FALLOCATE. */
export const REQUEST_STATUS_ONLY = 3;
/** Its task writes the reply's body itself. */
export const REQUEST_OWN_REPLY = 4;

/** Read-ahead and the search for holes: no program waits for it, and nothing is lost without it. */
export const SPECULATIVE = 5;

/** It has asked for no order, or needs none any more. */
export const ORDER_NONE = 0;
/** It waits until what it overlaps is over. */
export const ORDER_WAITS = 1;
/** It is a change that holds its bytes. */
export const ORDER_HOLDS = 2;

/** The `pid` of a request for whose reply no thread waits. */
export const NO_THREAD = -1;

/** What a request needs of the disk that it is for. */
export interface RequestTarget {
  readonly node: { readonly name: string };
  /** See COUNTER. */
  readonly counters: Float64Array;
  /** Milliseconds of the worker's clock of the server's last sign of life; -Infinity without a connection. */
  readonly lastProgress: number;
  /** Ends the request's turn among overlapping requests. Returns the requests whose turn has come. */
  leaveOrder(request: FuseRequest): readonly FuseRequest[];
  /** A background FLUSH has ended, with an errno or 0. */
  flushEnded(errno: number): void;
}

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
  disk: RequestTarget | undefined = undefined;
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
  task: Task | undefined = undefined;
  /** What a trace tells of it in the place of offset and length; set only when there is a trace. */
  about: LogFields | undefined = undefined;
  /** Milliseconds of the worker's clock at its arrival. */
  startedAt = 0;
  /** Its place in the table while in use, -1 otherwise. */
  index = -1;
  #answered = false;

  /** Whether the kernel has its reply: then only the clean-up is left. */
  get answered(): boolean {
    return this.#answered;
  }

  /** To be called when the reply is sent, once. */
  markAnswered(): void {
    assert(!this.#answered, 'a request is answered once');
    this.#answered = true;
  }

  /** Whether a task continues: no command failed, and no signal has freed the requester. */
  get goesOn(): boolean {
    return this.error === 0 && !this.#answered;
  }

  /** Takes the requester from a FUSE request's header. @param descriptor the /dev/fuse descriptor that it came from */
  readHeader(view: DataView, descriptor: number): void {
    this.descriptor = descriptor;
    this.opcode = view.getUint32(IN_OPCODE, HOST_ENDIAN);
    this.uniqueLo = view.getUint32(IN_UNIQUE_LO, HOST_ENDIAN);
    this.uniqueHi = view.getUint32(IN_UNIQUE_HI, HOST_ENDIAN);
    this.pid = view.getUint32(IN_PID, HOST_ENDIAN);
  }

  /** Sets which bytes of the disk a READ or WRITE is about. */
  setPlace(offsetHi: number, offsetLo: number, length: number): void {
    this.offsetHi = offsetHi;
    this.offsetLo = offsetLo;
    this.length = length;
  }

  /** Makes every field as in a new request. */
  reset(): void {
    this.kind = BACKGROUND_FLUSH;
    this.opcode = 0;
    this.descriptor = -1;
    this.uniqueLo = 0;
    this.uniqueHi = 0;
    this.pid = 0;
    this.disk = undefined;
    this.setPlace(0, 0, 0);
    this.change = 0;
    this.rangeStart = 0;
    this.rangeEnd = 0;
    this.interrupted = false;
    this.buffer = undefined;
    this.bufferAt = 0;
    this.pending = 0;
    this.error = 0;
    this.task = undefined;
    this.about = undefined;
    this.startedAt = 0;
    this.index = -1;
    this.#answered = false;
  }
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
  uses(disk: RequestTarget): boolean {
    return this.#active.some((one) => one.disk === disk);
  }

  /** How many requests of the kernel are under way on a disk. */
  asked(disk: RequestTarget): number {
    return this.#active.filter((one) => one.disk === disk && isAsked(one)).length;
  }

  /** Whether anything is under way that changes some of `length` bytes at (hi, lo) of a disk. */
  changing(disk: RequestTarget, hi: number, lo: number, length: number): boolean {
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
    assert(request.index >= 0 && request.pending <= 0, 'a request ends once, with nothing pending');
    const last = this.#active.pop();
    if (last !== undefined && last !== request) {
      this.#active[request.index] = last;
      last.index = request.index;
    }
    assert(request.order === ORDER_NONE, 'a request that ends holds no bytes');
    request.reset();
    this.#free.push(request);
  }

  /** The request that answers the kernel's request `unique`. */
  find(uniqueHi: number, uniqueLo: number): FuseRequest | undefined {
    return this.#active.find((one) => one.uniqueLo === uniqueLo && one.uniqueHi === uniqueHi && isAsked(one));
  }
}
