// A process that plays operations on the file under test and on a plain file, and reports any difference.
//
// Started by stage.ts as a separate process: the process that serves the file must not wait for it. Every
// operation is in the log before it begins: the last line names the operation that hangs or crashes.

import { openSync, writeSync } from 'node:fs';
import { EIO } from '../../src/constants/errno.js';
import { Random } from '../simulate/random.js';
import { checkHoles, differenceOf } from './difference.js';
import type { FromActor, ToActor } from './messages.js';
import {
  kindsFor,
  mappingAfter,
  mustRepeat,
  nextOperation,
  type Operation,
  type Range,
  textOf,
} from './operations.js';
import type { Plan } from './plan.js';
import { PlayedFile } from './played-file.js';
import { O_DIRECT, O_DSYNC } from './system.js';

/** Bytes of the written pattern: no block size is a multiple of it. */
const PATTERN = 61;

/** Milliseconds until a failed operation is repeated. */
const REPEAT_PAUSE = 100;

const FLAGS: Readonly<Record<Plan['actors'], readonly number[]>> = {
  mixed: [0, O_DIRECT, O_DSYNC],
  cached: [0, 0, O_DSYNC],
  direct: [O_DIRECT, O_DIRECT, O_DIRECT | O_DSYNC],
};

/** One actor, which plays its operations. */
class Actor {
  readonly #request: Extract<ToActor, { kind: 'start' }>;
  readonly #random: Random;
  readonly #area: Range;
  readonly #log: number;
  readonly #kinds: ReturnType<typeof kindsFor>;
  readonly #bytes: readonly [Buffer, Buffer];
  #files: readonly [subject: PlayedFile, reference: PlayedFile] | undefined;
  /** Operations that were chosen, played or not, and the mapping if all were played. */
  #count = 0;
  #mapping: Range | undefined;

  constructor(request: Extract<ToActor, { kind: 'start' }>) {
    const { plan, index, area } = request;
    this.#request = request;
    this.#area = area;
    this.#random = new Random(plan.seed * 16 + index);
    this.#kinds = kindsFor(plan);
    this.#log = openSync(request.log, 'a');
    this.#bytes = [Buffer.alloc(area.length), Buffer.alloc(area.length)];
  }

  /**
   * Plays the next operations.
   * @param kept the numbers of those that are played, if not all are
   * @throws Error that describes a difference
   */
  play(count: number, kept: readonly number[] | undefined): void {
    const wanted = kept && new Set(kept);
    for (let i = 0; i < count; i++) {
      const operation = nextOperation(this.#kinds, this.#area, this.#mapping, this.#random);
      this.#mapping = mappingAfter(operation, this.#mapping);
      const number = this.#count++;
      if (wanted?.has(number) === false) continue;
      this.#files ??= this.#open();
      if (!this.#files[0].allows(operation)) continue;
      writeSync(this.#log, `${number} ${textOf(operation)}\n`);
      this.#playBoth(operation, ...this.#files);
    }
  }

  close(): void {
    this.#mapping = undefined;
    const files = this.#files;
    this.#files = undefined;
    // Otherwise nbdfuse ends with status 1, after a loss that no fsync has reported.
    if (files !== undefined && mustRepeat(this.#request.plan))
      this.#playOnSubject({ kind: 'fsync', descriptor: 0 }, files[0]);
    for (const file of files ?? []) file.close();
  }

  /** Reads the whole area of both. @throws Error that describes a difference */
  compare(): void {
    this.#files ??= this.#open();
    writeSync(this.#log, 'compare\n');
    this.#playBoth({ kind: 'read', descriptor: 0, ...this.#area }, ...this.#files);
  }

  #open(): readonly [PlayedFile, PlayedFile] {
    const { plan, subject, reference } = this.#request;
    const flags = FLAGS[plan.actors];
    const plain = flags.map(() => 0);
    return [new PlayedFile(subject, flags, true), new PlayedFile(reference, plain, false)];
  }

  #playBoth(operation: Operation, subject: PlayedFile, reference: PlayedFile): void {
    const [ours, theirs] = this.#bytes;
    if ('fill' in operation) {
      this.#fill(ours, operation.length, operation.fill);
      ours.copy(theirs, 0, 0, operation.length);
    }
    const result = this.#playOnSubject(operation, subject);
    const expected = reference.play(operation, theirs);
    if (operation.kind === 'seek') checkHoles(operation, this.#request.plan.size, subject, reference);
    const difference = differenceOf(operation, [result, ours], [expected, theirs]);
    if (difference !== undefined) throw new Error(`${textOf(operation)}: ${difference}`);
  }

  /** Plays on the mounted file; where changes may fail with EIO, until it succeeds. */
  #playOnSubject(operation: Operation, subject: PlayedFile): number {
    for (;;) {
      const result = subject.play(operation, this.#bytes[0]);
      if (result !== -EIO || !mustRepeat(this.#request.plan)) return result;
      writeSync(this.#log, `EIO: ${textOf(operation)}\n`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REPEAT_PAUSE);
    }
  }

  /** Zeros, or a pattern that identifies its operation. */
  #fill(bytes: Buffer, length: number, fill: number): void {
    if (fill === 0) {
      bytes.fill(0, 0, length);
      return;
    }
    const pattern = new Random(fill);
    const unit = Buffer.from(Array.from({ length: PATTERN }, () => 1 + pattern.below(255)));
    bytes.fill(unit, 0, length);
  }
}

let actor: Actor | undefined;

function tell(message: FromActor): void {
  process.send?.(message);
}

process.on('message', (message: ToActor) => {
  try {
    if (message.kind === 'start') actor = new Actor(message);
    else if (message.kind === 'play') actor?.play(message.count, message.kept);
    else if (message.kind === 'compare') actor?.compare();
    else actor?.close();
    tell({ kind: 'done' });
  } catch (error) {
    tell({ kind: 'failed', why: error instanceof Error ? error.message : String(error) });
  }
});
