// A pass over a compressed file from its beginning to its end, which finds its size and its restart points.
//
// Its units are kept like any others, and answer reads that wait for them.

import { type Input, type MemberCheck, type RestartPoint, START } from '../contract/coding.js';
import { UNIT } from '../contract/units.js';
import type { PackedCoding } from '../decode/decoder.js';
import { BACKGROUND, DEMAND } from '../schedule/tasks.js';
import { ownMemory, unitOf } from './coded-source.js';
import type { DecodePool } from './decode-pool.js';
import { Feeder } from './feeder.js';
import type { FromThread } from './messages.js';
import type { RunningPass } from './reader.js';

/** The number of the pass among the tasks, whose numbers begin at 1. */
const TASK = 0;
/** Units that its thread makes before they are taken. */
const WINDOW = 32;

/** The findings of a pass. */
export interface PassResult {
  /** Decoded bytes; up to where the decoder stopped, where there is damage. */
  readonly size: number;
  readonly points: readonly RestartPoint[];
  readonly warning: string | undefined;
  readonly damage:
    | {
        readonly message: string;
        /** The first unit that has damaged bytes. */
        readonly unit: number;
        /** Its bytes before the damage. */
        readonly partial: Uint8Array | undefined;
      }
    | undefined;
}

export interface PassOptions {
  readonly coding: PackedCoding;
  readonly check: MemberCheck | undefined;
  readonly input: Input;
  readonly pool: DecodePool;
  /** Decoded bytes between two points. */
  readonly spacing: number;
  readonly made: (unit: number, bytes: Uint8Array) => void;
  readonly found: (point: RestartPoint) => void;
  readonly fetched: (bytes: number) => void;
}

export class Pass implements RunningPass {
  position = 0;
  /** Compressed bytes that have been decoded. */
  done = 0;
  readonly result: Promise<PassResult>;
  readonly #options: PassOptions;
  readonly #feeder: Feeder;
  readonly #points: RestartPoint[] = [START];
  /** Before the size is known, nobody can use the image. */
  #priority: number = DEMAND;
  #resolve: (result: PassResult) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor(options: PassOptions) {
    const { input, pool, fetched } = options;
    this.#options = options;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#feeder = new Feeder({
      input,
      at: 0,
      end: undefined,
      give: (bytes, isLast) => pool.send({ kind: 'input', task: TASK, bytes, isLast }, ownMemory(bytes)),
      fail: (error) => {
        this.close();
        this.#reject(error);
      },
      count: fetched,
    });
  }

  /** The points that have been found so far. */
  get points(): readonly RestartPoint[] {
    return this.#points;
  }

  start(): void {
    const { coding, check, pool, spacing } = this.#options;
    const size = undefined;
    const [first, end, priority] = [0, Number.MAX_SAFE_INTEGER, this.#priority];
    pool.send({
      kind: 'open',
      task: TASK,
      coding,
      check,
      from: START,
      first,
      goal: WINDOW,
      end,
      behind: 0,
      priority,
      size,
      spacing,
    });
    this.#feeder.start();
  }

  /** The size is known: readers that wait for a unit come first. */
  relax(): void {
    this.#priority = BACKGROUND;
    this.#change();
  }

  hurry(): void {
    if (this.#priority === DEMAND) return;
    this.#priority = DEMAND;
    this.#change();
  }

  /** Takes a message of a thread. False: it is not about the pass. */
  take(message: FromThread): boolean {
    if (message.task !== TASK) return false;
    switch (message.kind) {
      case 'unit':
        this.#progress(message.wanted, false);
        this.position += 1;
        this.#options.made(this.position - 1, unitOf(message.bytes));
        this.#change();
        break;
      case 'hungry':
        this.#progress(message.wanted, true);
        break;
      case 'points':
        for (const point of message.points) this.#add(point);
        break;
      case 'ended':
        this.#end({ size: message.out, warning: message.warning, damage: undefined });
        break;
      default:
        this.#fail(message);
    }
    return true;
  }

  close(): void {
    this.#feeder.close();
    this.#options.pool.send({ kind: 'close', task: TASK });
  }

  #change(): void {
    const goal = this.position + WINDOW;
    this.#options.pool.send({ kind: 'change', task: TASK, goal, priority: this.#priority });
  }

  #progress(wanted: number, isHungry: boolean): void {
    this.done = wanted;
    this.#feeder.progress(wanted, isHungry);
  }

  #add(point: RestartPoint): void {
    const last = this.#points.at(-1);
    if (last !== undefined && point.out <= last.out) return;
    this.#points.push(point);
    this.#options.found(point);
  }

  #end(found: Omit<PassResult, 'points'>): void {
    this.close();
    this.#resolve({ ...found, points: this.#points });
  }

  #fail({ message, reason, in: at, out, partial }: Extract<FromThread, { kind: 'failed' }>): void {
    if (reason === undefined || reason === 'memory') {
      this.close();
      this.#reject(new Error(message));
      return;
    }
    const start = this.position * UNIT;
    const unit = Math.min(this.position, Math.floor(out / UNIT));
    const isHere = unit === this.position;
    const damage = {
      message: `${message} (byte ${at} of the file)`,
      unit,
      partial: isHere ? partial?.subarray(0, out - start) : undefined,
    };
    this.#end({ size: start + (partial?.length ?? 0), warning: undefined, damage });
  }
}
