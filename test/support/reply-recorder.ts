// Stands in for the worker and the client in tests of the reply receiver: records its calls, and
// fails when the receiver breaks its own promises (bytes out of bounds or twice, memory used again).

import fc from 'fast-check';
import type { Coverage } from '../../src/nbd/transmission/coverage.js';
import type { PendingRequest, ReplyFormat, ReplySink } from '../../src/nbd/transmission/reply.js';
import { ReplyReceiver } from '../../src/nbd/transmission/reply-receiver.js';

export const SIMPLE = { structuredReplies: false, extendedHeaders: false };
export const STRUCTURED = { structuredReplies: true, extendedHeaders: false };
export const EXTENDED = { structuredReplies: true, extendedHeaders: true };

/** Bytes before the received part, as in the worker's reply buffer. */
const MARGIN = 32;

export class RecordedRequest implements PendingRequest {
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
    if (this.filled.subarray(at, at + count).some((times) => times > 0))
      throw new Error('bytes filled twice');
    this.filled.fill(1, at, at + count);
  }
}

export class Recorder implements ReplySink<RecordedRequest> {
  readonly inFlight = new Map<bigint, RecordedRequest>();
  readonly finishedOnes: RecordedRequest[] = [];
  /** The request whose bytes came as the whole reply: `finished` must come next. */
  #whole: RecordedRequest | undefined;

  ask(cookie: bigint, recorded: RecordedRequest): RecordedRequest {
    this.inFlight.set(cookie, recorded);
    return recorded;
  }

  find(hi: number, lo: number): RecordedRequest | undefined {
    if (this.#whole !== undefined) throw new Error('something comes between the only bytes and the end');
    return this.inFlight.get((BigInt(hi) << 32n) | BigInt(lo));
  }

  data(recorded: RecordedRequest, at: number, bytes: Uint8Array, start: number, end: number): void {
    recorded.fill(at, end - start);
    recorded.bytes.set(bytes.subarray(start, end), at);
  }

  wholeData(recorded: RecordedRequest, bytes: Uint8Array, start: number): void {
    if (start + recorded.length > bytes.length) throw new Error('not all bytes of the reply');
    this.data(recorded, 0, bytes, start, start + recorded.length);
    bytes.fill(0x55, start - 16, start);
    this.#whole = recorded;
  }

  hole(recorded: RecordedRequest, at: number, length: number): void {
    recorded.fill(at, length);
    recorded.bytes.fill(0, at, at + length);
  }

  extents(
    recorded: RecordedRequest,
    contextId: number,
    payload: DataView,
    start: number,
    wide: boolean,
  ): void {
    recorded.extents.push(contextId);
    for (let at = start; at < payload.byteLength; at += wide ? 16 : 8) {
      if (wide) recorded.extents.push(Number(payload.getBigUint64(at)), Number(payload.getBigUint64(at + 8)));
      else recorded.extents.push(payload.getUint32(at), payload.getUint32(at + 4));
    }
  }

  finished(recorded: RecordedRequest, error: number, text: string): void {
    if (recorded.result !== undefined) throw new Error('finished twice');
    if (this.#whole !== undefined && (this.#whole !== recorded || error !== 0))
      throw new Error('the only bytes were not those of the reply');
    this.#whole = undefined;
    if (error === 0 && recorded.filled.includes(0)) throw new Error('finished with bytes missing');
    recorded.result = { error, text };
    this.finishedOnes.push(recorded);
    for (const [cookie, one] of this.inFlight) if (one === recorded) this.inFlight.delete(cookie);
  }
}

/** Receives `stream[from, to)` from a separate buffer, which is then overwritten. */
function receivePiece(
  receiver: ReplyReceiver<RecordedRequest>,
  stream: Uint8Array,
  from: number,
  to: number,
): void {
  const piece = new Uint8Array(MARGIN + to - from);
  piece.set(stream.subarray(from, to), MARGIN);
  receiver.receive(piece, MARGIN, piece.length);
  piece.fill(0x55);
}

/** Feeds `stream` in parts that end at `cuts` (ascending), and returns whether a reply is unfinished. */
export function feed(
  format: ReplyFormat,
  recorder: Recorder,
  stream: Uint8Array,
  cuts: readonly number[],
): { idle: boolean } {
  const receiver = new ReplyReceiver<RecordedRequest>(format, recorder);
  let from = 0;
  for (const cut of [...cuts.filter((one) => one < stream.length), stream.length]) {
    if (cut <= from) continue;
    receivePiece(receiver, stream, from, cut);
    from = cut;
  }
  return receiver;
}

/**
 * Feeds `stream` as the worker does for large READs: it receives headers alone, as far as the receiver
 * requests, and copies payloads to their place past the receiver, at most `most` bytes at a time.
 */
export function feedPlacing(
  format: ReplyFormat,
  recorder: Recorder,
  stream: Uint8Array,
  most: number,
): { idle: boolean } {
  const receiver = new ReplyReceiver<RecordedRequest>(format, recorder);
  for (let from = 0; from < stream.length; ) {
    const {
      payloadPending: pending,
      payloadRequest: recorded,
      payloadAt: at,
      headerPending: header,
    } = receiver;
    const count = Math.min(pending > 0 ? pending : header > 0 ? header : most, most, stream.length - from);
    if (pending > 0 && recorded !== undefined) {
      const whole = receiver.payloadWhole && count === pending;
      recorded.fill(at, count);
      recorded.bytes.set(stream.subarray(from, from + count), at);
      receiver.landed(count);
      if (whole && recorded.result === undefined)
        throw new Error('a whole payload has not finished its reply');
    } else receivePiece(receiver, stream, from, from + count);
    from += count;
  }
  return receiver;
}

export type Feeder = (format: ReplyFormat, recorder: Recorder, stream: Uint8Array) => { idle: boolean };

const someCuts = fc.sample(fc.array(fc.nat(200), { minLength: 1, maxLength: 8 }), { seed: 1, numRuns: 8 });

/** The ways to feed a stream, by name. */
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
