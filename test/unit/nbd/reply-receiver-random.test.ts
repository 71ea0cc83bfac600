// The reply receiver on random streams: every byte of every READ is right, for any order and any cuts; and
// for any broken stream it has the results of a naive reading of the rules.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_READ, NBD_CMD_WRITE } from '../../../src/nbd/constants.js';
import { NbdProtocolError } from '../../../src/nbd/errors.js';
import type { ReplyFormat } from '../../../src/nbd/transmission/reply.js';
import { ReplyReceiver } from '../../../src/nbd/transmission/reply-receiver.js';
import { type NaiveRequest, readNaively } from '../../support/naive-receiver.js';
import {
  EXTENDED,
  feed,
  feedPlacing,
  RecordedRequest,
  Recorder,
  SIMPLE,
  STRUCTURED,
} from '../../support/reply-recorder.js';
import {
  bytesOf,
  extendedChunk,
  simpleReply,
  structuredChunk,
  u16,
  u32,
  u64,
} from '../../support/reply-stream.js';

const DONE = 1;

interface Piece {
  readonly from: number;
  readonly to: number;
  readonly hole: boolean;
}

/** One request, and its reply. */
interface Plan {
  readonly cookie: bigint;
  readonly type: number;
  readonly offset: bigint;
  readonly length: number;
  /** Determines the content of the disk there, apart from holes. */
  readonly seed: number;
  /** The parts of the data, in the order of their arrival. */
  readonly pieces: readonly Piece[];
  /** 0, or the NBD_E* of the server. */
  readonly error: number;
  /** Whether a separate chunk ends the reply. */
  readonly endApart: boolean;
}

const byteAt = (plan: Plan, at: number): number => (plan.seed + at * 7 + (at >> 8)) & 0xff;

function cutUp(length: number, cuts: readonly number[], holes: readonly boolean[]): Piece[] {
  const edges = [...new Set([0, ...cuts.map((cut) => cut % length), length])].sort((a, b) => a - b);
  return edges.slice(1).map((to, i) => ({ from: edges[i], to, hole: holes[i % holes.length] }));
}

const plans: fc.Arbitrary<Plan> = fc
  .record({
    isRead: fc.boolean(),
    hi: fc.nat(0x3fffffff),
    // Around the boundaries of the halves of an offset, and anywhere.
    lo: fc.oneof(fc.nat(0xffffffff), fc.integer({ min: 0xfffffe00, max: 0xffffffff })),
    length: fc.integer({ min: 1, max: 600 }),
    seed: fc.nat(255),
    cuts: fc.array(fc.nat(), { maxLength: 5 }),
    holes: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    error: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(5) }),
    endApart: fc.boolean(),
  })
  .chain(({ isRead, hi, lo, length, cuts, holes, ...rest }) => {
    const pieces = isRead ? cutUp(length, cuts, holes) : [];
    return fc.shuffledSubarray(pieces, { minLength: pieces.length }).map((shuffled) => ({
      ...rest,
      cookie: 0n,
      type: isRead ? NBD_CMD_READ : NBD_CMD_WRITE,
      offset: (BigInt(hi) << 32n) | BigInt(lo),
      length,
      pieces: shuffled,
    }));
  });

/** Requests in flight with cookies of their own, in two generations. */
const sessions = fc
  .array(plans, { minLength: 1, maxLength: 6 })
  .map((some) => some.map((plan, i) => ({ ...plan, cookie: (BigInt(5 + (i % 2)) << 32n) | BigInt(i) })));

/** The order in which a server takes turns between its replies. */
const turns = fc.array(fc.nat(5), { maxLength: 40 });

const formats = fc.constantFrom(SIMPLE, STRUCTURED, EXTENDED);

/** All bytes of a READ's reply, except those that an error replaces. */
function expected(plan: Plan): Uint8Array {
  const bytes = new Uint8Array(plan.length);
  for (const { from, to, hole } of plan.pieces) {
    for (let i = from; i < to; i++) bytes[i] = hole ? 0 : byteAt(plan, i);
  }
  return bytes;
}

function replyOf(plan: Plan, format: ReplyFormat): Uint8Array[] {
  const { cookie, offset, error, endApart, pieces } = plan;
  if (!format.structuredReplies) {
    const data = error === 0 && plan.type === NBD_CMD_READ ? expected(plan) : new Uint8Array(0);
    return [simpleReply(cookie, error, data)];
  }
  const make = format.extendedHeaders ? extendedChunk : structuredChunk;
  const bodies = pieces.map(({ from, to, hole }) => {
    const place = u64(offset + BigInt(from));
    const data = Array.from({ length: to - from }, (_, i) => byteAt(plan, from + i));
    return hole
      ? { type: 2, payload: bytesOf(place, u32(to - from)) }
      : { type: 1, payload: bytesOf(place, data) };
  });
  // An error comes after some of the data, and stands for the rest.
  if (error !== 0) {
    bodies.splice(Math.ceil(bodies.length / 2));
    bodies.push({ type: 0x8001, payload: bytesOf(u32(error), u16(2), [0x6e, 0x6f]) });
  }
  const none = { type: 0, payload: new Uint8Array(0) };
  if (endApart || bodies.length === 0) bodies.push(none);
  return bodies.map((body, i) =>
    make({ cookie, offset, flags: i === bodies.length - 1 ? DONE : 0, ...body }),
  );
}

/** All chunks, those of different requests mixed, each request's own in order. */
function mix(all: readonly Uint8Array[][], order: readonly number[]): Uint8Array[] {
  const queues = all.map((chunks) => [...chunks]);
  const out: Uint8Array[] = [];
  for (let i = 0; queues.some((queue) => queue.length > 0); i++) {
    const chunk = queues[(order[i] ?? i) % queues.length].shift();
    if (chunk !== undefined) out.push(chunk);
  }
  return out;
}

function ask(recorder: Recorder, some: readonly Plan[]): RecordedRequest[] {
  return some.map((plan) =>
    recorder.ask(plan.cookie, new RecordedRequest(plan.type, plan.offset, plan.length)),
  );
}

function checkRight(some: readonly Plan[], recorded: readonly RecordedRequest[], format: ReplyFormat): void {
  recorded.forEach((one, i) => {
    const { error, type } = some[i];
    const text = error !== 0 && format.structuredReplies ? 'no' : '';
    expect(one.result).toEqual({ error, text });
    if (error === 0 && type === NBD_CMD_READ) expect(Buffer.compare(one.bytes, expected(some[i]))).toBe(0);
  });
}

describe('reply stream that keeps the rules', () => {
  test('has right bytes for every READ, in any order, cut anywhere', () => {
    const cuts = fc.array(fc.nat(4000), { maxLength: 12 });
    fc.assert(
      fc.property(sessions, formats, turns, cuts, (some, format, order, ends) => {
        const stream = bytesOf(
          ...mix(
            some.map((plan) => replyOf(plan, format)),
            order,
          ),
        );
        const recorder = new Recorder();
        const recorded = ask(recorder, some);
        const sorted = [...ends].sort((a, b) => a - b);
        expect(feed(format, recorder, stream, sorted).idle).toBe(true);
        checkRight(some, recorded, format);
      }),
      { numRuns: 300 },
    );
  });

  test('has right bytes also byte by byte, and when payloads bypass the receiver', () => {
    fc.assert(
      fc.property(sessions, formats, turns, fc.integer({ min: 1, max: 700 }), (some, format, order, most) => {
        const stream = bytesOf(
          ...mix(
            some.map((plan) => replyOf(plan, format)),
            order,
          ),
        );
        const [slow, placing] = [new Recorder(), new Recorder()];
        const recorded = [ask(slow, some), ask(placing, some)];
        feed(format, slow, stream, [...stream.keys()]);
        feedPlacing(format, placing, stream, most);
        for (const each of recorded) checkRight(some, each, format);
      }),
      { numRuns: 100 },
    );
  });
});

/** Ways to break a stream of chunks. */
const faults = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('flip' as const),
      where: fc.nat(),
      value: fc.integer({ min: 1, max: 255 }),
    }),
    fc.record({
      kind: fc.constant('header' as const),
      where: fc.nat(),
      value: fc.integer({ min: 1, max: 255 }),
    }),
    fc.record({ kind: fc.constant('cut' as const), where: fc.nat(), value: fc.integer({ min: 1, max: 40 }) }),
    fc.record({
      kind: fc.constant('insert' as const),
      where: fc.nat(),
      value: fc.integer({ min: 1, max: 40 }),
    }),
    fc.record({ kind: fc.constant('again' as const), where: fc.nat(), value: fc.constant(0) }),
    fc.record({ kind: fc.constant('swap' as const), where: fc.nat(), value: fc.nat() }),
  ),
  { minLength: 1, maxLength: 3 },
);

type Fault = {
  readonly kind: 'flip' | 'header' | 'cut' | 'insert' | 'again' | 'swap';
  where: number;
  value: number;
};

function broken(chunks: readonly Uint8Array[], some: readonly Fault[]): Uint8Array {
  const parts: Uint8Array[] = chunks.map((chunk) => chunk.slice());
  for (const { kind, where, value } of some) {
    const i = where % parts.length;
    const part = parts[i];
    const byte = Math.floor(where / parts.length) % Math.max(part.length, 1);
    if (kind === 'flip') part[byte] ^= value;
    else if (kind === 'header') part[byte % Math.min(part.length, 40)] ^= value;
    else if (kind === 'cut') parts[i] = bytesOf(part.subarray(0, byte), part.subarray(byte + value));
    else if (kind === 'insert') {
      parts[i] = bytesOf(part.subarray(0, byte), new Uint8Array(value), part.subarray(byte));
    } else if (kind === 'again') parts.splice(i, 0, part.slice());
    else [parts[i], parts[value % parts.length]] = [parts[value % parts.length], part];
  }
  return bytesOf(...parts);
}

/** Runs a stream, and compares its results with a naive reading of the same stream. */
function checkAgainstNaive(
  format: ReplyFormat,
  requests: ReadonlyMap<bigint, NaiveRequest>,
  stream: Uint8Array,
  cuts: readonly number[],
): void {
  const recorder = new Recorder();
  const recorded = new Map<bigint, RecordedRequest>();
  for (const [cookie, { type, offset, length }] of requests)
    recorded.set(cookie, recorder.ask(cookie, new RecordedRequest(type, offset, length)));
  let breach = false;
  try {
    feed(format, recorder, stream, cuts);
  } catch (error) {
    // Any other exception is a failure: the receiver's own, or the recorder's of a broken promise.
    if (!(error instanceof NbdProtocolError)) throw error;
    breach = true;
  }
  const naive = readNaively(format, requests, stream);
  expect(breach).toBe(naive.breach);
  for (const [cookie, one] of recorded) {
    const reply = naive.replies.get(cookie);
    expect(one.result?.error).toBe(reply?.error);
    if (reply?.error === 0) expect(Buffer.compare(one.bytes, reply.bytes)).toBe(0);
  }
}

describe('broken reply stream', () => {
  test('fails, or has replies that the rules allow: bytes changed, lost, added, chunks twice or swapped', () => {
    const cuts = fc.array(fc.nat(4000), { maxLength: 6 });
    fc.assert(
      fc.property(sessions, formats, turns, faults, cuts, (some, format, order, wrong, ends) => {
        const chunks = mix(
          some.map((plan) => replyOf(plan, format)),
          order,
        );
        const requests = new Map(some.map((plan) => [plan.cookie, plan]));
        const sorted = [...ends].sort((a, b) => a - b);
        checkAgainstNaive(format, requests, broken(chunks, wrong), sorted);
      }),
      { numRuns: 1500 },
    );
  });

  test('of right headers with random fields fails in the same way', () => {
    const small = fc.integer({ min: 0, max: 40 });
    const chunk = fc.record({
      type: fc.constantFrom(0, 1, 2, 3, 5, 6, 0x8001, 0x8002, 0x8003),
      cookie: fc.constantFrom(0n, 1n, 2n),
      flags: fc.constantFrom(0, 1, 0xfffe, 0xffff),
      length: fc.oneof(small, fc.constantFrom(0xffffffff, 0x80000000, 4110, 4111)),
      place: fc.oneof(
        fc.integer({ min: 96, max: 112 }).map(BigInt),
        fc.constantFrom(2n ** 64n - 1n, 2n ** 64n - 8n, 2n ** 63n, 2n ** 32n + 100n),
      ),
      rest: fc.oneof(fc.uint8Array({ maxLength: 32 }), small.map(u32), small.map(u64)),
    });
    const requests = new Map([
      [0n, { type: NBD_CMD_READ, offset: 100n, length: 8 }],
      [1n, { type: NBD_CMD_READ, offset: 100n, length: 1 }],
      [2n, { type: NBD_CMD_WRITE, offset: 100n, length: 8 }],
    ]);
    fc.assert(
      fc.property(
        fc.array(chunk, { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        fc.boolean(),
        (some, honest, wide) => {
          const stream = some.map(({ place, rest, length, ...fields }) => {
            const payload = bytesOf(u64(place), rest);
            const claim = honest ? payload.length : length;
            return wide
              ? extendedChunk({ ...fields, payload, length: claim, offset: 100n })
              : structuredChunk({ ...fields, payload, length: claim });
          });
          checkAgainstNaive(wide ? EXTENDED : STRUCTURED, requests, bytesOf(...stream), []);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('of random bytes fails', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 400 }), formats, (bytes, format) => {
        const recorder = new Recorder();
        recorder.ask(0n, new RecordedRequest(NBD_CMD_READ, 0n, 64));
        expect(() => feed(format, recorder, bytes, [])).toThrow(NbdProtocolError);
      }),
      { numRuns: 300 },
    );
  });
});

test('reply receiver: takes memory for received bytes, not for announced ones', () => {
  const before = process.memoryUsage().arrayBuffers;
  const receivers = Array.from({ length: 2000 }, () => {
    const recorder = new Recorder();
    recorder.ask(1n, new RecordedRequest(NBD_CMD_BLOCK_STATUS, 0n, 512));
    const receiver = new ReplyReceiver<RecordedRequest>(STRUCTURED, recorder);
    const start = structuredChunk({
      cookie: 1n,
      type: 5,
      payload: bytesOf(u32(1)),
      length: 16 * 2 ** 20 + 4,
    });
    receiver.receive(start, 0, start.length);
    return receiver;
  });
  expect(receivers.every((receiver) => !receiver.idle)).toBe(true);
  // 32 GiB were announced.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 2 ** 20);
});

test('reply receiver: endless errors use no memory', () => {
  const recorder = new Recorder();
  const recorded = recorder.ask(1n, new RecordedRequest(NBD_CMD_WRITE, 0n, 512));
  const receiver = new ReplyReceiver<RecordedRequest>(STRUCTURED, recorder);
  const payload = bytesOf(u32(5), u16(4096), new Uint8Array(4096).fill(0x61));
  const chunk = structuredChunk({ cookie: 1n, type: 0x8001, payload });
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 20_000; i++) receiver.receive(chunk, 0, chunk.length);
  expect(recorded.failureText).toHaveLength(4096);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 2 ** 20);
});
