// The reply receiver on random streams: every byte of every READ is right, whatever the order and the
// cuts; and whatever is broken in a stream, it is refused or right, never anything else.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NBD_CMD_READ } from '../../src/nbd/constants.js';
import { NbdProtocolError } from '../../src/nbd/errors.js';
import { Asked, feed, Recorder } from '../helpers/reply-recorder.js';
import { bytesOf, extendedChunk, structuredChunk, u32, u64 } from '../helpers/reply-stream.js';

const DONE = 1;

/** The disk that the servers of this file have. */
const byteAt = (offset: bigint): number => Number((offset * 7n + (offset >> 8n)) & 0xffn) | 1;

interface Plan {
  readonly offset: bigint;
  readonly length: number;
  /** Where the READ's reply is cut into chunks, in permille. */
  readonly cuts: readonly number[];
  /** Which of them are holes. */
  readonly holes: readonly boolean[];
  readonly order: number;
}

const plans = fc.array(
  fc.record({
    offset: fc.bigInt({ min: 0n, max: 2n ** 62n }),
    length: fc.integer({ min: 1, max: 600 }),
    cuts: fc.array(fc.integer({ min: 1, max: 999 }), { maxLength: 5 }),
    holes: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    order: fc.nat(),
  }),
  { minLength: 1, maxLength: 5 },
);

function expected(plan: Plan): Uint8Array {
  const bytes = new Uint8Array(plan.length);
  pieces(plan).forEach(({ from, to, hole }) => {
    for (let i = from; i < to; i++) bytes[i] = hole ? 0 : byteAt(plan.offset + BigInt(i));
  });
  return bytes;
}

function pieces(plan: Plan): { from: number; to: number; hole: boolean }[] {
  const edges = [
    ...new Set([0, ...plan.cuts.map((cut) => Math.floor((cut * plan.length) / 1000)), plan.length]),
  ];
  edges.sort((a, b) => a - b);
  return edges.slice(1).map((to, i) => ({ from: edges[i], to, hole: plan.holes[i % 6] }));
}

function chunksOf(plan: Plan, cookie: bigint, extended: boolean): Uint8Array[] {
  const make = extended ? extendedChunk : structuredChunk;
  const shuffled = pieces(plan);
  for (let i = 0; i < plan.order % 4; i++) shuffled.push(...shuffled.splice(0, 1));
  const bodies = shuffled.map(({ from, to, hole }) => {
    const at = plan.offset + BigInt(from);
    if (hole) return { type: 2, payload: bytesOf(u64(at), u32(to - from)) };
    const data = Array.from({ length: to - from }, (_, i) => byteAt(at + BigInt(i)));
    return { type: 1, payload: bytesOf(u64(at), data) };
  });
  const doneApart = plan.order % 3 === 0;
  const chunks = bodies.map((body, i) =>
    make({ cookie, offset: plan.offset, flags: !doneApart && i === bodies.length - 1 ? DONE : 0, ...body }),
  );
  if (doneApart) chunks.push(make({ cookie, offset: plan.offset, type: 0, flags: DONE }));
  return chunks;
}

/** All chunks, those of different requests mixed, each request's own in order. */
function mix(all: Uint8Array[][], seed: number): Uint8Array {
  const queues = all.map((chunks) => [...chunks]);
  const out: Uint8Array[] = [];
  for (let turn = seed; queues.some((queue) => queue.length > 0); turn = (turn * 48271 + 11) % 65521) {
    const chunk = queues[turn % queues.length].shift();
    if (chunk !== undefined) out.push(chunk);
  }
  return bytesOf(...out);
}

test('every byte of every READ is right, in any order, cut anywhere', () => {
  fc.assert(
    fc.property(plans, fc.boolean(), fc.nat(60_000), fc.array(fc.nat(4000)), (some, extended, seed, cuts) => {
      const recorder = new Recorder();
      const asked = some.map((plan, i) =>
        recorder.ask(BigInt(i) + (7n << 32n), new Asked(NBD_CMD_READ, plan.offset, plan.length)),
      );
      const stream = mix(
        some.map((plan, i) => chunksOf(plan, BigInt(i) + (7n << 32n), extended)),
        seed,
      );
      const format = { structuredReplies: true, extendedHeaders: extended };
      feed(
        format,
        recorder,
        stream,
        [...cuts].sort((a, b) => a - b),
      );
      asked.forEach((one, i) => {
        expect(one.result).toEqual({ error: 0, text: '' });
        expect(Buffer.from(one.bytes)).toEqual(Buffer.from(expected(some[i])));
      });
    }),
    { numRuns: 300 },
  );
});

test('a stream with any byte changed is refused, or its finished READs are in bounds', () => {
  fc.assert(
    fc.property(
      plans,
      fc.nat(60_000),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (some, seed, where, flip) => {
        const recorder = new Recorder();
        some.map((plan, i) => recorder.ask(BigInt(i), new Asked(NBD_CMD_READ, plan.offset, plan.length)));
        const stream = mix(
          some.map((plan, i) => chunksOf(plan, BigInt(i), false)),
          seed,
        );
        stream[where % stream.length] ^= flip;
        try {
          feed({ structuredReplies: true, extendedHeaders: false }, recorder, stream, []);
        } catch (error) {
          expect(error).toBeInstanceOf(NbdProtocolError);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('random bytes are refused without anything else happening', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 400 }), fc.boolean(), (bytes, extended) => {
      const recorder = new Recorder();
      recorder.ask(0n, new Asked(NBD_CMD_READ, 0n, 64));
      expect(() => feed({ structuredReplies: true, extendedHeaders: extended }, recorder, bytes, [])).toThrow(
        NbdProtocolError,
      );
    }),
    { numRuns: 300 },
  );
});
