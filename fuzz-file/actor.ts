// A process that plays operations on the file under test and on a plain file, and tells of any difference.
//
// Started by stage.ts, since a system call on a file that is served from here would wait for itself. Every
// operation is in its log before it begins: what it waits for, or dies of, is the last line.

import { openSync, writeSync } from 'node:fs';
import { checkHoles, differenceOf } from './difference.js';
import type { FromActor, ToActor } from './messages.js';
import { kindsFor, nextOperation, type Operation, type Range, textOf } from './operations.js';
import type { Plan } from './plan.js';
import { PlayedFile } from './played-file.js';
import { Random } from './random.js';
import { O_DIRECT, O_DSYNC } from './system.js';

/** Bytes of the pattern that is written: no block has a multiple of it. */
const PATTERN = 61;

const FLAGS: Readonly<Record<Plan['actors'], readonly number[]>> = {
  mixed: [0, O_DIRECT, O_DSYNC],
  cached: [0, 0, O_DSYNC],
  direct: [O_DIRECT, O_DIRECT, O_DIRECT | O_DSYNC],
};

/** What one actor does. */
class Actor {
  readonly #request: Extract<ToActor, { kind: 'start' }>;
  readonly #random: Random;
  readonly #area: Range;
  readonly #log: number;
  readonly #kinds: ReturnType<typeof kindsFor>;
  readonly #bytes: readonly [Buffer, Buffer];
  #files: readonly [subject: PlayedFile, reference: PlayedFile] | undefined;
  #count = 0;

  constructor(request: Extract<ToActor, { kind: 'start' }>) {
    const { plan, index, area } = request;
    this.#request = request;
    this.#area = area;
    this.#random = new Random(plan.seed * 16 + index);
    this.#kinds = kindsFor(plan);
    this.#log = openSync(request.log, 'a');
    this.#bytes = [Buffer.alloc(area.length), Buffer.alloc(area.length)];
  }

  /** Plays some operations. @throws Error that tells of a difference */
  play(count: number): void {
    this.#files ??= this.#open();
    for (let i = 0; i < count; i++) {
      const operation = nextOperation(this.#kinds, this.#area, this.#files[0].mapping, this.#random);
      writeSync(this.#log, `${this.#count++} ${textOf(operation)}\n`);
      this.#playBoth(operation, ...this.#files);
    }
  }

  close(): void {
    const files = this.#files;
    this.#files = undefined;
    for (const file of files ?? []) file.close();
  }

  /** Reads the whole area of both. @throws Error that tells of a difference */
  compare(): void {
    this.#files ??= this.#open();
    writeSync(this.#log, `${this.#count++} compare\n`);
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
    const result = subject.play(operation, ours);
    const expected = reference.play(operation, theirs);
    if (operation.kind === 'seek') checkHoles(operation, this.#request.plan.size, subject, reference);
    const difference = differenceOf(operation, [result, ours], [expected, theirs]);
    if (difference !== undefined) throw new Error(`${textOf(operation)}: ${difference}`);
  }

  /** Zeros, or a pattern that tells which operation it is of. */
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
    else if (message.kind === 'play') actor?.play(message.count);
    else if (message.kind === 'compare') actor?.compare();
    else actor?.close();
    tell({ kind: 'done' });
  } catch (error) {
    tell({ kind: 'failed', why: error instanceof Error ? error.message : String(error) });
  }
});
