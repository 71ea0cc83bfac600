// The map of holes, against a model that keeps every byte.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../../../src/nbd/constants.js';
import { ExtentMap } from '../../../../src/worker/disk/extent-map.js';
import { NbdCommand } from '../../../../src/worker/flight/nbd-command.js';

function command(type: number, offset: bigint, length: number, extents?: number[]): NbdCommand {
  const made = new NbdCommand(0);
  made.type = type;
  made.offsetHi = Number(offset >> 32n);
  made.offsetLo = Number(offset & 0xffffffffn);
  made.length = length;
  made.extents = extents;
  return made;
}

const tell = (map: ExtentMap, offset: bigint, extents: number[]): void => {
  map.querySent([]);
  map.answered(command(NBD_CMD_BLOCK_STATUS, offset, 0, extents));
};

describe('extent map', () => {
  test('joins adjacent extents, and has no extents beyond the reply', () => {
    const map = new ExtentMap(true);
    tell(map, 0n, [512, 3, 512, 3, 1024, 0]);
    expect(map.at(700n)).toEqual({ start: 0n, end: 1024n, hole: true });
    expect(map.at(1024n)).toEqual({ start: 1024n, end: 2048n, hole: false });
    expect(map.at(2048n)).toBeUndefined();
    expect(map.run(0n, 4096n)).toEqual({ holes: 1024n, end: 2048n });
  });

  test('trusts a known extent for ten seconds: another client may have written since', () => {
    const map = new ExtentMap(true);
    map.begin(100_000);
    tell(map, 0n, [4096, 3]);
    map.begin(110_000);
    expect(map.at(0n)?.hole).toBe(true);
    map.begin(110_001);
    expect(map.at(0n)).toBeUndefined();
    tell(map, 0n, [4096, 0]);
    map.begin(120_000);
    expect(map.at(0n)?.hole).toBe(false);
  });

  test('a hole is a range that reads as zeros, allocated or not ("base:allocation metadata context")', () => {
    const map = new ExtentMap(true);
    // NBD_STATE_HOLE alone: contents undefined. NBD_STATE_ZERO alone: zeros that are allocated. Bits above: ignored.
    tell(map, 0n, [512, 1, 512, 2, 512, 0xfffffffc, 512, 0xfffffffe]);
    expect([0n, 512n, 1024n, 1536n].map((at) => map.at(at)?.hole)).toEqual([false, true, false, true]);
  });

  test('counts a write during a query as data, whatever the reply says', () => {
    const map = new ExtentMap(true);
    map.querySent([]);
    map.wrote(command(NBD_CMD_WRITE, 512n, 512));
    map.answered(command(NBD_CMD_BLOCK_STATUS, 0n, 4096, [4096, 3]));
    expect(map.at(0n)).toEqual({ start: 0n, end: 512n, hole: true });
    expect(map.at(600n)?.hole).toBe(false);
    expect(map.at(1024n)).toEqual({ start: 1024n, end: 4096n, hole: true });
  });

  test('after zeroing all of it is unknown', () => {
    const map = new ExtentMap(true);
    tell(map, 0n, [4096, 0]);
    map.wrote(command(NBD_CMD_WRITE_ZEROES, 0n, 512));
    expect(map.at(0n)).toBeUndefined();
  });

  test('after more writes than it can record all of it is unknown, never wrong', () => {
    const map = new ExtentMap(true);
    tell(map, 0n, [1_000_000, 3]);
    for (let i = 0; i < 5000; i++) map.wrote(command(NBD_CMD_WRITE, BigInt(i * 100), 50));
    expect(map.at(0n)).toBeUndefined();
    tell(map, 0n, [100, 3]);
    expect(map.at(0n)?.hole).toBe(true);
  });

  test('without keeping, a new query begins with nothing known', () => {
    const map = new ExtentMap(false);
    tell(map, 0n, [4096, 3]);
    expect(map.at(0n)?.hole).toBe(true);
    map.begin(0);
    expect(map.at(0n)).toBeUndefined();
    const keeping = new ExtentMap(true);
    tell(keeping, 0n, [4096, 3]);
    keeping.begin(0);
    expect(keeping.at(0n)?.hole).toBe(true);
  });

  test('counts a write that was in flight before the query as data, whatever the reply says', () => {
    const map = new ExtentMap(true);
    const underWay = command(NBD_CMD_WRITE, 512n, 512);
    map.wrote(underWay);
    map.querySent([underWay]);
    map.answered(command(NBD_CMD_BLOCK_STATUS, 0n, 4096, [4096, 3]));
    expect(map.at(0n)).toEqual({ start: 0n, end: 512n, hole: true });
    expect(map.at(512n)).toEqual({ start: 512n, end: 1024n, hole: false });
  });

  test('a hole excludes the ranges written since the query', () => {
    const map = new ExtentMap(true);
    tell(map, 0n, [4096, 3]);
    map.wrote(command(NBD_CMD_WRITE, 1024n, 512));
    expect(map.run(0n, 3000n)).toEqual({ holes: 3000n - 512n, end: 3000n });
  });

  test('tells the runs of the last reply, even if a change keeps it out of the map', () => {
    const map = new ExtentMap(true);
    map.recordReplies(true);
    map.querySent([]);
    map.wrote(command(NBD_CMD_WRITE_ZEROES, 0n, 512));
    map.answered(command(NBD_CMD_BLOCK_STATUS, 512n, 4096, [512, 3, 512, 0, 4096, 3]));
    expect(map.run(512n, 8192n)).toEqual({ holes: 0n, end: 512n });
    expect(map.repliedRun(512n, 4096n)).toEqual({ holes: 3072n, end: 4096n });
    expect(map.repliedRun(768n, 4096n)).toEqual({ holes: 2816n, end: 4096n });
    expect(map.repliedRun(0n, 4096n)).toEqual({ holes: 0n, end: 0n });
    map.recordReplies(false);
    expect(map.repliedRun(512n, 4096n)).toEqual({ holes: 0n, end: 512n });
  });

  test('an error adds nothing, and neither does a reply without extents', () => {
    const map = new ExtentMap(true);
    tell(map, 0n, [512, 3]);
    map.querySent([]);
    map.answered(command(NBD_CMD_BLOCK_STATUS, 0n, 4096));
    tell(map, 0n, []);
    expect(map.at(0n)).toEqual({ start: 0n, end: 512n, hole: true });
    expect(map.at(512n)).toBeUndefined();
  });

  test('an abandoned query records no more writes', () => {
    const map = new ExtentMap(true);
    map.querySent([]);
    map.wrote(command(NBD_CMD_WRITE, 0n, 512));
    map.gaveUp();
    tell(map, 0n, [512, 3]);
    expect(map.at(0n)?.hole).toBe(true);
  });

  test('offsets beyond 2^53 and lengths beyond 4 GiB are exact', () => {
    const map = new ExtentMap(true);
    const start = 2n ** 62n + 1n;
    tell(map, start, [2 ** 40 + 1, 3, 1, 0]);
    expect(map.at(start - 1n)).toBeUndefined();
    expect(map.at(start)).toEqual({ start, end: start + 2n ** 40n + 1n, hole: true });
    expect(map.at(start + 2n ** 40n + 1n)?.hole).toBe(false);
  });

  test('adds large replies before many known runs in little time', () => {
    const map = new ExtentMap(true);
    const many = Array.from({ length: 65_536 }, (_, i) => (i % 2 === 0 ? 10 : ((i >> 1) % 2) * 3));
    const start = performance.now();
    for (const turn of [1n, 0n]) tell(map, turn * 327_680n, many);
    // One by one it took seconds.
    expect(performance.now() - start).toBeLessThan(1000);
    expect(map.at(327_680n)?.hole).toBe(false);
    expect(map.run(0n, 2n ** 20n)).toEqual({ holes: 327_680n, end: 655_360n });
  });

  test('past its limit it forgets all but the last run', () => {
    const map = new ExtentMap(true);
    const many = Array.from({ length: 2 * 65_537 }, (_, i) => (i % 2 === 0 ? 10 : ((i >> 1) % 2) * 3));
    tell(map, 0n, many);
    expect(map.at(0n)).toBeUndefined();
    expect(map.at(655_369n)?.hole).toBe(false);
  });

  test('agrees with a model that keeps every byte, for any statuses and writes', () => {
    const size = 64;
    const step = fc.record({
      write: fc.boolean(),
      at: fc.integer({ min: 0, max: size - 1 }),
      lengths: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 4 }),
      holes: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const map = new ExtentMap(true);
        const model: (boolean | undefined)[] = new Array(size * 2).fill(undefined);
        let anything = false;
        for (const { write, at, lengths, holes } of steps) {
          if (write) {
            map.wrote(command(NBD_CMD_WRITE, BigInt(at), lengths[0]));
            if (anything) model.fill(false, at, at + lengths[0]);
          } else {
            anything = true;
            tell(
              map,
              BigInt(at),
              lengths.flatMap((length, i) => [length, holes[i] ? 3 : 0]),
            );
            let from = at;
            lengths.forEach((length, i) => {
              model.fill(holes[i], from, from + length);
              from += length;
            });
          }
          for (let i = 0; i < size; i++) expect(map.at(BigInt(i))?.hole).toBe(model[i]);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('never reports written data as a hole, for any order of server actions and any kind of query', () => {
    const size = 48;
    const where = { at: fc.nat(size - 1), length: fc.integer({ min: 1, max: 16 }) };
    const step = fc.oneof(
      fc.record({ kind: fc.constantFrom('write', 'write', 'zero', 'ask'), ...where }),
      fc.record({
        kind: fc.constantFrom('do', 'look', 'answer', 'answer', 'lose', 'refuse'),
        at: fc.nat(),
        length: fc.constant(0),
      }),
    );
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 80 }),
        fc.array(fc.boolean(), { minLength: size, maxLength: size }),
        (steps, holes) => {
          const world = new World([...holes]);
          for (const one of steps) {
            world.step(one.kind, one.at, one.length);
            world.check();
          }
        },
      ),
      { numRuns: 600 },
    );
  });
});

interface Sent {
  readonly command: NbdCommand;
  /** The result of a BLOCK_STATUS: a length and flags for each byte. */
  seen: number[] | undefined;
}

/** A server that executes the commands in flight in any order, and clients that write and query. */
class World {
  readonly map = new ExtentMap(true);
  /** Of each byte, on the server's disk: whether it is a hole. */
  readonly holes: boolean[];
  /** Of each byte: whether the last change that was sent is a write. */
  readonly written: boolean[];
  changes: Sent[] = [];
  questions: Sent[] = [];

  constructor(holes: boolean[]) {
    this.holes = holes;
    this.written = holes.map(() => false);
  }

  step(kind: string, at: number, length: number): void {
    if (kind === 'write' || kind === 'zero') this.change(kind === 'write', at, length);
    else if (kind === 'ask') {
      this.map.querySent(this.changes.map((change) => change.command));
      this.questions.push({ command: command(NBD_CMD_BLOCK_STATUS, BigInt(at), length), seen: undefined });
    } else if (kind === 'do') this.carryOut(at % Math.max(this.changes.length, 1));
    else {
      const question = this.questions[at % Math.max(this.questions.length, 1)];
      if (question === undefined) return;
      if (kind === 'look') this.look(question);
      else this.end(question, kind);
    }
  }

  change(write: boolean, at: number, length: number): void {
    const end = Math.min(at + length, this.holes.length);
    // Concurrent changes do not overlap: nothing promises their order.
    const free = ({ command: other }: Sent): boolean =>
      other.offsetLo >= end || other.offsetLo + other.length <= at;
    if (!this.changes.every(free)) return;
    const sent = command(write ? NBD_CMD_WRITE : NBD_CMD_WRITE_ZEROES, BigInt(at), end - at);
    this.map.wrote(sent);
    this.written.fill(write, at, end);
    this.changes.push({ command: sent, seen: undefined });
  }

  carryOut(index: number): void {
    const [change] = this.changes.splice(index, 1);
    if (change === undefined) return;
    const { type, offsetLo, length } = change.command;
    this.holes.fill(type === NBD_CMD_WRITE_ZEROES, offsetLo, offsetLo + length);
  }

  look(question: Sent): void {
    const { offsetLo, length } = question.command;
    question.seen = this.holes.slice(offsetLo, offsetLo + length).flatMap((hole) => [1, hole ? 3 : 0]);
  }

  end(question: Sent, how: string): void {
    if (how === 'answer' && question.seen === undefined) this.look(question);
    this.questions = this.questions.filter((one) => one !== question);
    question.command.extents = how === 'answer' ? question.seen : undefined;
    if (how === 'lose') this.map.gaveUp();
    else this.map.answered(question.command);
  }

  /** A byte in a reported hole must read as zeros when all commands in flight are done. */
  check(): void {
    this.holes.forEach((_, i) => {
      const extent = this.map.at(BigInt(i));
      if (extent === undefined) return;
      expect(extent.start <= BigInt(i) && BigInt(i) < extent.end).toBe(true);
      if (extent.hole) expect(this.written[i], `byte ${i}`).toBe(false);
    });
  }
}
