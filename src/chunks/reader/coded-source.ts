// The units of a compressed file: each task has a decoder in a thread and a feeder.
//
// Units whose check comes soon are held back until it has passed, so that no damaged byte is served.

import type { Coding, Damage, Input } from '../contract/coding.js';
import { lengthOfUnit, UNIT, unitsOf, zeroUnit } from '../contract/units.js';
import type { PackedCoding } from '../decode/decoder.js';
import { type Task, WHOLE } from '../schedule/tasks.js';
import type { DecodePool } from './decode-pool.js';
import { Feeder } from './feeder.js';
import type { FromThread } from './messages.js';
import type { SourceEvents, UnitSource } from './source.js';

/** Codings that check each block or frame; the check of gzip is at the end of the whole file. */
export const CHECKED: readonly Coding[] = ['xz', 'bzip2', 'zstd', 'lz4'];

/** Bytes that are decoded behind a chunk which is not held back, to see that its last block ends there. */
const CONFIRMING = 64 * 1024;

interface Open {
  readonly task: Task;
  readonly feeder: Feeder;
  readonly isHeld: boolean;
  held: Uint8Array[];
  /** The decoded bytes behind them, where the file ends before a whole unit. */
  rest: Uint8Array | undefined;
}

export interface CodedSourceOptions {
  readonly coding: PackedCoding;
  readonly input: Input;
  /** Bytes of the image. */
  readonly size: number;
  readonly pool: DecodePool;
  readonly events: SourceEvents;
}

/** The bytes' own memory, which can be handed to a thread; none for a part of a larger one. */
export function ownMemory({ buffer, byteLength }: Uint8Array): readonly ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength && byteLength > 0 ? [buffer] : [];
}

/** The bytes of a message. */
export const unitOf = (bytes: Uint8Array | number): Uint8Array =>
  typeof bytes === 'number' ? zeroUnit(bytes) : bytes;

export class CodedSource implements UnitSource {
  readonly maxOpen: number;
  readonly #options: CodedSourceOptions;
  readonly #open = new Map<number, Open>();

  constructor(options: CodedSourceOptions) {
    this.#options = options;
    // One more than are decoded at the same time is fetched, and one may be idle for a reader in order.
    this.maxOpen = options.pool.threads + 2;
  }

  open(task: Task): void {
    const { coding, input, size, pool, events } = this.#options;
    const { id, chunk, goal, priority } = task;
    const feeder = new Feeder({
      input,
      at: chunk.from.in,
      end: chunk.inEnd,
      give: (bytes, isLast) => pool.send({ kind: 'input', task: id, bytes, isLast }, ownMemory(bytes)),
      fail: (error) => events.failed(task, error),
      count: (bytes) => events.fetched(bytes),
    });
    const isHeld = CHECKED.includes(coding) && chunk.end - chunk.first <= WHOLE;
    this.#open.set(id, { task, feeder, isHeld, held: [], rest: undefined });
    const { first, end, from } = chunk;
    const spacing = undefined;
    const behind = isHeld ? WHOLE * UNIT : CONFIRMING;
    pool.send({ kind: 'open', task: id, coding, from, first, goal, end, behind, priority, size, spacing });
    feeder.start();
  }

  change({ id, goal, priority }: Task): void {
    this.#options.pool.send({ kind: 'change', task: id, goal, priority });
  }

  close({ id }: Task): void {
    this.#open.get(id)?.feeder.close();
    this.#open.delete(id);
    this.#options.pool.send({ kind: 'close', task: id });
  }

  /** Takes a message of a thread. False: it is about none of these tasks. */
  take(message: FromThread): boolean {
    const open = this.#open.get(message.task);
    if (open === undefined) return false;
    switch (message.kind) {
      case 'unit':
        open.feeder.progress(message.wanted, false);
        this.#takeUnit(open, message.bytes, message.verified);
        break;
      case 'hungry':
        open.feeder.progress(message.wanted, true);
        break;
      case 'failed':
        this.#fail(open, message);
        break;
      case 'ended':
        // A file that ends before the units of a task has another size than its index says.
        this.#damaged(open, 'the file ends before its image', message.verified);
        break;
      default:
    }
    return true;
  }

  #takeUnit(open: Open, given: Uint8Array | number, verified: number): void {
    const bytes = unitOf(given);
    const { task } = open;
    if (bytes.length < lengthOfUnit(task.position + open.held.length, this.#options.size)) {
      open.rest = bytes;
      return;
    }
    open.held.push(bytes);
    const isLast = task.position + open.held.length === task.chunk.end;
    while (open.held.length > 0 && task.isOpen) {
      const end = task.position * UNIT + open.held[0].length;
      if (open.isHeld && !isLast && end > verified) return;
      const [next] = open.held.splice(0, 1);
      this.#options.events.made(task, next);
    }
  }

  #fail(open: Open, message: Extract<FromThread, { kind: 'failed' }>): void {
    const { events } = this.#options;
    if (message.reason === undefined || message.reason === 'memory') {
      events.failed(open.task, new Error(message.message));
      return;
    }
    open.rest = message.partial;
    this.#damaged(open, `${message.message} (byte ${message.in} of the file)`, message.out, message.reason);
  }

  /** Gives the held units that lie before the damage, and tells it. @param end of the decoded bytes that are right */
  #damaged(open: Open, message: string, end: number, reason?: Damage): void {
    const { events } = this.#options;
    const { task, held } = open;
    while (held.length > 0 && task.isOpen && task.position * UNIT + held[0].length <= end) {
      const [next] = held.splice(0, 1);
      events.made(task, next);
    }
    if (!task.isOpen) return;
    const [next = open.rest] = held;
    const sound = Math.max(0, end - task.position * UNIT);
    const isLast = task.chunk.end === unitsOf(this.#options.size);
    if (reason === 'misplaced' && !isLast) events.misplaced(task, message);
    else events.damaged(task, message, sound === 0 ? undefined : next?.subarray(0, sound));
  }
}
