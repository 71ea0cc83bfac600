// One request of the kernel (or of our own) that needs the server, from its arrival to its reply.
//
// An operation owns one block of data at most and waits for any number of commands. The plain READ
// and WRITE of one command each are answered at once when it is done; everything that takes several
// steps is a generator (`task`), taken up again whenever all commands that it waits for are done.

import { FUSE_FALLOCATE } from '../fuse/constants.js';
import type { LogFields } from '../os/log-line.js';
import { assert } from './assert.js';
import type { Block } from './blocks.js';
import type { Asker } from './device.js';
import type { Disk } from './disk.js';
import { distance } from './offsets.js';

/** Nobody waits: the bridge's own doing. */
export const OPERATION_INTERNAL = 0;
export const OPERATION_READ = 1;
export const OPERATION_WRITE = 2;
/** Answered with a header alone: FSYNC, FALLOCATE. */
export const OPERATION_PLAIN = 3;
/** Its task writes the reply's body itself. */
export const OPERATION_REPLY = 4;

/** Finding out about holes and reading ahead: nobody waits for it, and nothing is lost without it. */
export const OPERATION_OWN = 5;

/** It has asked for no order, or needs none any more. */
export const ORDER_NONE = 0;
/** It waits until what it overlaps is over. */
export const ORDER_WAITS = 1;
/** It is a change that holds its bytes. */
export const ORDER_HOLDS = 2;

/** The `pid` of an operation for whose reply no thread waits. */
export const NOBODY = -1;

/** The steps of an operation: each `yield` waits until no command of the operation is left. */
export type Task = Generator<void, void, void>;

/** Reused, never freed. Fields are as in a new one when it is taken. */
export class Operation implements Asker {
  kind = OPERATION_INTERNAL;
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
  block: Block | undefined = undefined;
  blockAt = 0;
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
function isAsked({ kind }: Operation): boolean {
  return kind !== OPERATION_INTERNAL && kind !== OPERATION_OWN;
}

/** All operations under way, so that an interrupted one can be found. */
export class OperationTable {
  readonly #active: Operation[] = [];
  readonly #free: Operation[] = [];

  get count(): number {
    return this.#active.length;
  }

  /** Whether there are others than those that may be left undone. */
  get busy(): boolean {
    return this.#active.some(({ kind }) => kind !== OPERATION_OWN);
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
      if (one.kind !== OPERATION_WRITE) continue;
      const ahead = distance(one.offsetHi, one.offsetLo, hi, lo);
      if (ahead < length && ahead + one.length > 0) return true;
    }
    return false;
  }

  /** What the kernel has asked for before `time` and has no reply to. */
  unansweredSince(time: number): Operation[] {
    return this.#active.filter((one) => isAsked(one) && !one.answered && one.startedAt < time);
  }

  take(): Operation {
    const operation = this.#free.pop() ?? new Operation();
    operation.index = this.#active.length;
    this.#active.push(operation);
    return operation;
  }

  give(operation: Operation): void {
    assert(operation.index >= 0 && operation.pending <= 0, 'a request ends once, with nothing pending');
    const last = this.#active.pop();
    if (last !== undefined && last !== operation) {
      this.#active[operation.index] = last;
      last.index = operation.index;
    }
    operation.kind = OPERATION_INTERNAL;
    operation.opcode = 0;
    operation.uniqueLo = 0;
    operation.uniqueHi = 0;
    operation.pid = 0;
    operation.disk = undefined;
    operation.block = undefined;
    operation.blockAt = 0;
    operation.pending = 0;
    operation.error = 0;
    operation.answered = false;
    operation.task = undefined;
    operation.about = undefined;
    operation.change = 0;
    operation.interrupted = false;
    operation.index = -1;
    this.#free.push(operation);
  }

  /** The operation that answers the kernel's request `unique`. */
  find(uniqueHi: number, uniqueLo: number): Operation | undefined {
    return this.#active.find((one) => one.uniqueLo === uniqueLo && one.uniqueHi === uniqueHi && isAsked(one));
  }
}
