// Stands in for the worker and the client in tests of the reply receiver: records its calls, and
// fails when the receiver breaks its own promises (bytes out of bounds or twice, memory used again).

import fc from 'fast-check';
import type { Coverage } from '../../src/nbd/transmission/coverage.js';
import type { PendingRequest, ReplyFormat, ReplySink } from '../../src/nbd/transmission/reply.js';
import { ReplyReceiver } from '../../src/nbd/transmission/reply-receiver.js';

export const SIMPLE = { structuredReplies: false, extendedHeaders: false };
export const STRUCTURED = { structuredReplies: true, extendedHeaders: false };
export const EXTENDED = { structuredReplies: true, extendedHeaders: true };

/** Bytes before a piece that is received, as the worker's reply buffer has them. */
const MARGIN = 32;

export class Asked implements PendingRequest {
  readonly type: number;
  readonly flags: number;
  readonly length: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  covered = 0;
  coverage: Coverage | undefined;
  failure = 0;
  failureText = '';
  readonly bytes: Uint8Array;
  readonly filled: Uint8Array;
  readonly extents: number[] = [];
  result: { error: number; text: string } | undefined;

  constructor(type: number, offset: bigint, length: number, flags = 0) {
    this.type = type;
    this.flags = flags;
    this.length = length;
    this.offsetHi = Number(offset >> 32n);
    this.offsetLo = Number(offset & 0xffffffffn);
    // Bytes that no reply fills stay recognizable.
    this.bytes = new Uint8Array(type === 0 ? length : 0).fill(0xee);
    this.filled = new Uint8Array(this.bytes.length);
  }

  /** The receiver is about to fill bytes [at, at + count): in bounds, and for the first time. */
  fill(at: number, count: number): void {
    if (this.result !== undefined) throw new Error('bytes of a finished reply');
    if (at < 0 || at + count > this.length) throw new Error('bytes out of bounds');
    if (this.filled.subarray(at, at + count).some((times) => times > 0)) throw new Error('bytes told twice');
    this.filled.fill(1, at, at + count);
  }
}

export class Recorder implements ReplySink<Asked> {
  readonly inFlight = new Map<bigint, Asked>();
  readonly finishedOnes: Asked[] = [];
  /** Whose bytes were given as all of the reply: `finished` must come next. */
  #whole: Asked | undefined;

  ask(cookie: bigint, asked: Asked): Asked {
    this.inFlight.set(cookie, asked);
    return asked;
  }

  find(hi: number, lo: number): Asked | undefined {
    if (this.#whole !== undefined) throw new Error('something comes between the only bytes and the end');
    return this.inFlight.get((BigInt(hi) << 32n) | BigInt(lo));
  }

  data(asked: Asked, at: number, bytes: Uint8Array, start: number, end: number): void {
    asked.fill(at, end - start);
    asked.bytes.set(bytes.subarray(start, end), at);
  }

  wholeData(asked: Asked, bytes: Uint8Array, start: number): void {
    if (start + asked.length > bytes.length) throw new Error('not all bytes of the reply');
    this.data(asked, 0, bytes, start, start + asked.length);
    bytes.fill(0x55, start - 16, start);
    this.#whole = asked;
  }

  hole(asked: Asked, at: number, length: number): void {
    asked.fill(at, length);
    asked.bytes.fill(0, at, at + length);
  }

  extents(asked: Asked, contextId: number, payload: DataView, start: number, wide: boolean): void {
    asked.extents.push(contextId);
    for (let at = start; at < payload.byteLength; at += wide ? 16 : 8) {
      if (wide) asked.extents.push(Number(payload.getBigUint64(at)), Number(payload.getBigUint64(at + 8)));
      else asked.extents.push(payload.getUint32(at), payload.getUint32(at + 4));
    }
  }

  finished(asked: Asked, error: number, text: string): void {
    if (asked.result !== undefined) throw new Error('finished twice');
    if (this.#whole !== undefined && (this.#whole !== asked || error !== 0))
      throw new Error('the only bytes were not those of the reply');
    this.#whole = undefined;
    if (error === 0 && asked.filled.includes(0)) throw new Error('finished with bytes missing');
    asked.result = { error, text };
    this.finishedOnes.push(asked);
    for (const [cookie, one] of this.inFlight) if (one === asked) this.inFlight.delete(cookie);
  }
}

/** Receives `stream[from, to)` from a buffer of its own, which is then filled with rubbish. */
function receivePiece(receiver: ReplyReceiver<Asked>, stream: Uint8Array, from: number, to: number): void {
  const piece = new Uint8Array(MARGIN + to - from);
  piece.set(stream.subarray(from, to), MARGIN);
  receiver.receive(piece, MARGIN, piece.length);
  piece.fill(0x55);
}

/** Feeds `stream` in the pieces that end at `cuts` (ascending), and says whether a reply is unfinished. */
export function feed(
  format: ReplyFormat,
  recorder: Recorder,
  stream: Uint8Array,
  cuts: readonly number[],
): { idle: boolean } {
  const receiver = new ReplyReceiver<Asked>(format, recorder);
  let from = 0;
  for (const cut of [...cuts.filter((one) => one < stream.length), stream.length]) {
    if (cut <= from) continue;
    receivePiece(receiver, stream, from, cut);
    from = cut;
  }
  return receiver;
}

/**
 * Feeds `stream` as the worker does for large READs: headers are received alone, as far as the receiver
 * says, and payloads are put where they belong past the receiver, at most `most` bytes at a time.
 */
export function feedPlacing(
  format: ReplyFormat,
  recorder: Recorder,
  stream: Uint8Array,
  most: number,
): { idle: boolean } {
  const receiver = new ReplyReceiver<Asked>(format, recorder);
  for (let from = 0; from < stream.length; ) {
    const { payloadPending: pending, payloadRequest: asked, payloadAt: at, headerPending: header } = receiver;
    const count = Math.min(pending > 0 ? pending : header > 0 ? header : most, most, stream.length - from);
    if (pending > 0 && asked !== undefined) {
      const whole = receiver.payloadWhole && count === pending;
      asked.fill(at, count);
      asked.bytes.set(stream.subarray(from, from + count), at);
      receiver.landed(count);
      if (whole && asked.result === undefined) throw new Error('a whole payload has not finished its reply');
    } else receivePiece(receiver, stream, from, from + count);
    from += count;
  }
  return receiver;
}

export type Feeder = (format: ReplyFormat, recorder: Recorder, stream: Uint8Array) => { idle: boolean };

const someCuts = fc.sample(fc.array(fc.nat(200), { minLength: 1, maxLength: 8 }), { seed: 1, numRuns: 8 });

/** A name for each way in which a test is run, and the way. */
export const EVERY_WAY: readonly (readonly [string, Feeder])[] = [
  ['whole', (format, recorder, stream) => feed(format, recorder, stream, [])],
  ['byte by byte', (format, recorder, stream) => feed(format, recorder, stream, [...stream.keys()])],
  ...someCuts.map((cuts): readonly [string, Feeder] => {
    const sorted = [...cuts].sort((a, b) => a - b);
    return [`cut at ${sorted}`, (format, recorder, stream) => feed(format, recorder, stream, sorted)];
  }),
  ['placed', (format, recorder, stream) => feedPlacing(format, recorder, stream, 1 << 20)],
  ['placed by three', (format, recorder, stream) => feedPlacing(format, recorder, stream, 3)],
];
