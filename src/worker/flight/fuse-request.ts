// One FUSE request, or an internal one, that needs the server, from its arrival to its reply.
//
// A request owns at most one buffer and waits for any number of commands. A plain READ or WRITE is answered when its
// commands are done. A request of several steps has a generator (`task`), which resumes when no command is left.

import { FUSE_FALLOCATE } from '../../fuse/constants.js';
import { HOST_ENDIAN, IN_OPCODE, IN_PID, IN_UNIQUE_HI, IN_UNIQUE_LO } from '../../fuse/layout.js';
import type { LogFields } from '../../linux/log-line.js';
import { ACCESS_EXCLUSIVE, ACCESS_READ, type OrderedRequest } from '../../nbd/overlap-order.js';
import type { Requester } from '../device/device.js';
import { assert } from '../memory/assert.js';
import type { PooledBuffer } from '../memory/buffer-pool.js';
import { type Place, placesOverlap } from '../memory/u64.js';

/** Kind: an internal FLUSH, for which no program waits. */
export const BACKGROUND_FLUSH = 0;
export const REQUEST_READ = 1;
export const REQUEST_WRITE = 2;
/** Kind: the reply is only a header, as for FSYNC and FALLOCATE. */
export const REQUEST_STATUS_ONLY = 3;
/** Kind: the task writes the body of the reply itself. */
export const REQUEST_OWN_REPLY = 4;

/** Kind: read-ahead or a search for holes. No program waits for it, and it may be dropped. */
export const SPECULATIVE = 5;

/** Order: not in the range order. */
export const ORDER_NONE = 0;
/** Order: waits until all overlapping requests before it are done. */
export const ORDER_WAITS = 1;
/** Order: a change in progress; overlapping requests wait for it. */
export const ORDER_HOLDS = 2;

/** The `pid` of a request for whose reply no thread waits. */
export const NO_THREAD = -1;

/** The part of a disk that a request uses. */
export interface RequestTarget {
  readonly node: { readonly name: string };
  /** See COUNTER. */
  readonly counters: Float64Array;
  /** Time of the server's last progress, in milliseconds of the worker's clock; -Infinity without a connection. */
  readonly lastProgress: number;
  /** Ends the request's turn among overlapping requests. Returns the requests whose turn has come. */
  leaveOrder(request: FuseRequest): readonly FuseRequest[];
  /** A background FLUSH has ended, with an errno or 0. */
  flushEnded(errno: number): void;
}

/** The steps of a request: each `yield` waits until no command of the request is left. */
export type Task = Generator<void, void, void>;

/** One request. Requests are reused, never freed; `FuseRequestTable.take` returns one in the initial state. */
export class FuseRequest implements Requester, OrderedRequest {
  kind = BACKGROUND_FLUSH;
  opcode = 0;
  descriptor = -1;
  uniqueLo = 0;
  uniqueHi = 0;
  /** The thread that waits for the reply; 0 when it is in another pid namespace, NO_THREAD when none waits. */
  pid = 0;
  disk: RequestTarget | undefined = undefined;
  offsetHi = 0;
  offsetLo = 0;
  length = 0;
  /** See RangeOrder: the state, the number among the changes, and the range [start, end), rounded out to blocks. */
  order = ORDER_NONE;
  change = 0;
  rangeStart = 0;
  rangeEnd = 0;
  /** Whether the kernel has reported a signal that may end the program. */
  interrupted = false;
  task: Task | undefined = undefined;
  /** Fields of the trace line instead of offset and length; set only with -v. */
  about: LogFields | undefined = undefined;
  /** Time of arrival, in milliseconds of the worker's clock. */
  startedAt = 0;
  /** Index in the table; -1 when free. */
  index = -1;
  #buffer: PooledBuffer | undefined = undefined;
  #bufferAt = 0;
  #pending = 0;
  #error = 0;
  #answered = false;

  /** Data of a READ or WRITE; the payload begins at byte `bufferAt`. */
  get buffer(): PooledBuffer | undefined {
    return this.#buffer;
  }

  get bufferAt(): number {
    return this.#bufferAt;
  }

  /** Sets the data; the request takes over the caller's reference. */
  setPayload(buffer: PooledBuffer, at: number): void {
    assert(this.#buffer === undefined && buffer.references > 0, 'a request gets one buffer, which is in use');
    this.#buffer = buffer;
    this.#bufferAt = at;
  }

  /** Number of things that it waits for: unanswered commands, its turn, data read ahead. */
  get pending(): number {
    return this.#pending;
  }

  /** It waits for one more thing; `Engine.settle` follows for each. */
  waitForOne(): void {
    this.#pending++;
  }

  /** One thing is there. Returns how many are left. */
  endWait(): number {
    assert(this.#pending > 0 && this.index >= 0, 'a request is settled as often as it waits');
    return --this.#pending;
  }

  /** First errno of the commands; 0 without a failure. */
  get error(): number {
    return this.#error;
  }

  /** Lets the request fail. The first error counts. */
  fail(errno: number): void {
    if (this.#error === 0) this.#error = errno;
  }

  /** Returns the error and clears it: the request goes on in another way. */
  takeError(): number {
    const error = this.#error;
    this.#error = 0;
    return error;
  }

  /** Whether the kernel has the reply. Only cleanup is left then. */
  get answered(): boolean {
    return this.#answered;
  }

  /** Records that the reply is sent. @throws InvariantError the second time */
  markAnswered(): void {
    assert(!this.#answered, 'a request is answered once');
    this.#answered = true;
  }

  /** Whether a task continues: no command failed, and no signal has freed the requester. */
  get goesOn(): boolean {
    return this.#error === 0 && !this.#answered;
  }

  get access(): number {
    return this.kind === REQUEST_READ ? ACCESS_READ : ACCESS_EXCLUSIVE;
  }

  /** Reads the header of a FUSE request. @param descriptor the /dev/fuse descriptor that delivered it */
  readHeader(view: DataView, descriptor: number): void {
    this.descriptor = descriptor;
    this.opcode = view.getUint32(IN_OPCODE, HOST_ENDIAN);
    this.uniqueLo = view.getUint32(IN_UNIQUE_LO, HOST_ENDIAN);
    this.uniqueHi = view.getUint32(IN_UNIQUE_HI, HOST_ENDIAN);
    this.pid = view.getUint32(IN_PID, HOST_ENDIAN);
  }

  /** Sets the byte range of a READ or WRITE. */
  setPlace(offsetHi: number, offsetLo: number, length: number): void {
    this.offsetHi = offsetHi;
    this.offsetLo = offsetLo;
    this.length = length;
  }

  /** Returns every field to its initial value. */
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
    this.#buffer = undefined;
    this.#bufferAt = 0;
    this.#pending = 0;
    this.#error = 0;
    this.task = undefined;
    this.about = undefined;
    this.startedAt = 0;
    this.index = -1;
    this.#answered = false;
  }
}

/** Whether a request comes from the kernel. */
function isFromKernel({ kind }: FuseRequest): boolean {
  return kind !== BACKGROUND_FLUSH && kind !== SPECULATIVE;
}

/** All requests in progress. */
export class FuseRequestTable {
  readonly #active: FuseRequest[] = [];
  readonly #free: FuseRequest[] = [];

  get count(): number {
    return this.#active.length;
  }

  /** Whether a request other than a speculative one is in progress. */
  get busy(): boolean {
    return this.#active.some(({ kind }) => kind !== SPECULATIVE);
  }

  /** Whether a request uses a disk. */
  uses(disk: RequestTarget): boolean {
    return this.#active.some((one) => one.disk === disk);
  }

  /** Number of the kernel's requests for a disk. */
  inFlightOn(disk: RequestTarget): number {
    return this.#active.filter((one) => one.disk === disk && isFromKernel(one)).length;
  }

  /** Whether a request in progress may change some bytes of a range of a disk. */
  changing(disk: RequestTarget, place: Place): boolean {
    for (const one of this.#active) {
      if (one.disk !== disk) continue;
      if (one.opcode === FUSE_FALLOCATE) return true;
      if (one.kind !== REQUEST_WRITE) continue;
      if (placesOverlap(one, place)) return true;
    }
    return false;
  }

  /** The kernel's requests that arrived before `time` and have no reply. */
  unansweredSince(time: number): FuseRequest[] {
    return this.#active.filter((one) => isFromKernel(one) && !one.answered && one.startedAt < time);
  }

  take(): FuseRequest {
    const request = this.#free.pop() ?? new FuseRequest();
    request.index = this.#active.length;
    this.#active.push(request);
    return request;
  }

  release(request: FuseRequest): void {
    assert(request.index >= 0 && request.pending <= 0, 'a request ends once, with no command pending');
    const last = this.#active.pop();
    if (last !== undefined && last !== request) {
      this.#active[request.index] = last;
      last.index = request.index;
    }
    assert(request.order === ORDER_NONE, 'a request that ends has left the range order');
    request.reset();
    this.#free.push(request);
  }

  /** The request with the kernel's number `unique`. */
  find(uniqueHi: number, uniqueLo: number): FuseRequest | undefined {
    return this.#active.find(
      (one) => one.uniqueLo === uniqueLo && one.uniqueHi === uniqueHi && isFromKernel(one),
    );
  }
}
