// One decoder in a decode thread: from compressed bytes to units.
//
// Pure but for the decoder: `step` makes at most one unit, so that the thread can look at its messages in between.

import { DecodeError, type Decoder } from '../contract/coding.js';
import { isZero, UNIT } from '../contract/units.js';
import { createDecoder } from '../decode/decoder.js';
import type { FromThread, ToThread } from './messages.js';

type Open = Extract<ToThread, { kind: 'open' }>;
/** Sends a message to the chunk server. */
export type Tell = (message: FromThread, transfer?: readonly ArrayBuffer[]) => void;

/** Memory that the garbage collector does not move, as it would move small arrays. */
const memory = (length: number): Uint8Array => new Uint8Array(new ArrayBuffer(length));

/** Bytes that are decoded at once to reach the check behind the last unit of a chunk. */
const STEP = 64 * 1024;

export class ThreadTask {
  readonly task: number;
  priority: number;
  readonly #decoder: Decoder;
  readonly #tell: Tell;
  readonly #size: number | undefined;
  readonly #hasPoints: boolean;
  readonly #end: number;
  /** The next unit to send. */
  #unit: number;
  #goal: number;
  #bytes: Uint8Array | undefined;
  #filled = 0;
  /** Bytes that may still be decoded behind the chunk. */
  #behind: number;
  #isHungry = false;
  #isOver = false;

  constructor(open: Open, tell: Tell) {
    this.task = open.task;
    this.priority = open.priority;
    this.#tell = tell;
    this.#size = open.size;
    this.#hasPoints = open.spacing !== undefined;
    this.#unit = open.first;
    this.#goal = open.goal;
    this.#end = open.end;
    this.#behind = open.behind;
    const { coding, from, spacing = Number.MAX_SAFE_INTEGER, check } = open;
    this.#decoder = createDecoder(coding, from, spacing, check);
  }

  /** Whether `step` would do something. */
  get canStep(): boolean {
    return !this.#isOver && !this.#isHungry && this.#unit < this.#goal;
  }

  change(goal: number, priority: number): void {
    this.#goal = goal;
    this.priority = priority;
  }

  push(bytes: Uint8Array, isLast: boolean): void {
    if (this.#isOver) return;
    this.#decoder.push(bytes, isLast);
    this.#isHungry = false;
  }

  /** Decodes up to the end of a unit, of the input or of the file. */
  step(): void {
    try {
      this.#decode();
    } catch (error) {
      this.#fail(error);
    }
  }

  close(): void {
    this.#isOver = true;
    this.#decoder.close();
  }

  #decode(): void {
    const start = this.#unit * UNIT;
    if (this.#decoder.out < start) {
      // The chunk begins behind the restart point.
      const wanted = Math.min(start - this.#decoder.out, UNIT);
      if (this.#decoder.pull(memory(wanted)) === 0) this.#pause();
      return;
    }
    const length = this.#lengthOfUnit();
    if (this.#bytes?.length !== length) this.#bytes = memory(length);
    // An error comes after the bytes before it, so only 0 means that the decoder has no input.
    while (this.#filled < length) {
      const count = this.#decoder.pull(this.#bytes.subarray(this.#filled));
      if (count === 0) break;
      this.#filled += count;
    }
    if (this.#hasPoints) this.#tellPoints();
    if (this.#filled < length || !this.#isChecked()) this.#pause();
    else this.#send(this.#bytes);
  }

  /** Looks for the check behind the last unit of the chunk. False: the decoder needs input for it. */
  #isChecked(): boolean {
    const end = this.#unit * UNIT + this.#filled;
    if (this.#unit + 1 < this.#end) return true;
    while (this.#behind > 0 && this.#decoder.verified < end && !this.#decoder.ended) {
      const count = this.#decoder.pull(memory(Math.min(this.#behind, STEP)));
      this.#behind -= count;
      if (count === 0 && !this.#decoder.ended && this.#decoder.verified < end) return false;
    }
    return true;
  }

  #lengthOfUnit(): number {
    return this.#size === undefined ? UNIT : Math.min(UNIT, this.#size - this.#unit * UNIT);
  }

  #send(bytes: Uint8Array): void {
    const { verified, wanted } = this.#decoder;
    this.#filled = 0;
    this.#unit += 1;
    const head = { kind: 'unit', task: this.task, verified, wanted } as const;
    // The memory is used again for the next unit.
    if (isZero(bytes)) this.#tell({ ...head, bytes: bytes.length });
    else {
      this.#bytes = undefined;
      this.#tell({ ...head, bytes }, [bytes.buffer as ArrayBuffer]);
    }
    if (this.#decoder.ended) this.#finish();
  }

  #tellPoints(): void {
    const points = this.#decoder.takePoints();
    if (points.length > 0) this.#tell({ kind: 'points', task: this.task, points });
  }

  /** The decoder wrote less than it could. */
  #pause(): void {
    if (this.#decoder.ended) {
      // Only the last unit of a file may be shorter.
      if (this.#bytes !== undefined && this.#filled > 0) this.#send(this.#bytes.slice(0, this.#filled));
      else this.#finish();
      return;
    }
    this.#isHungry = true;
    this.#tell({ kind: 'hungry', task: this.task, wanted: this.#decoder.wanted });
  }

  #finish(): void {
    if (this.#isOver) return;
    if (this.#hasPoints) this.#tellPoints();
    this.#isOver = true;
    const { out, verified, warning } = this.#decoder;
    this.#tell({ kind: 'ended', task: this.task, out, verified, warning });
  }

  #fail(error: unknown): void {
    this.#isOver = true;
    const { out, wanted } = this.#decoder;
    const [reason, place] =
      error instanceof DecodeError ? [error.reason, error] : [undefined, { in: wanted, out }];
    const message = error instanceof Error ? error.message : String(error);
    const partial = this.#filled > 0 ? this.#bytes?.slice(0, this.#filled) : undefined;
    this.#tell({ kind: 'failed', task: this.task, message, reason, in: place.in, out: place.out, partial });
  }
}
