// Stands in for the bridge and the client in tests of the reply receiver: keeps what it is told.

import type { Coverage } from '../../src/nbd/coverage.js';
import type { PendingRequest, ReplyFormat, ReplySink } from '../../src/nbd/reply.js';
import { ReplyReceiver } from '../../src/nbd/reply-receiver.js';

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
  readonly extents: number[] = [];
  result: { error: number; text: string } | undefined;

  constructor(type: number, offset: bigint, length: number, flags = 0) {
    this.type = type;
    this.flags = flags;
    this.length = length;
    this.offsetHi = Number(offset >> 32n);
    this.offsetLo = Number(offset & 0xffffffffn);
    // What no reply fills in stays recognizable.
    this.bytes = new Uint8Array(type === 0 ? length : 0).fill(0xee);
  }
}

export class Recorder implements ReplySink<Asked> {
  readonly inFlight = new Map<bigint, Asked>();
  readonly finishedOnes: Asked[] = [];

  ask(cookie: bigint, asked: Asked): Asked {
    this.inFlight.set(cookie, asked);
    return asked;
  }

  find(hi: number, lo: number): Asked | undefined {
    return this.inFlight.get((BigInt(hi) << 32n) | BigInt(lo));
  }

  data(asked: Asked, at: number, bytes: Uint8Array, start: number, end: number): void {
    if (at + (end - start) > asked.length) throw new Error('data out of bounds');
    asked.bytes.set(bytes.subarray(start, end), at);
  }

  hole(asked: Asked, at: number, length: number): void {
    if (at + length > asked.length) throw new Error('hole out of bounds');
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
    asked.result = { error, text };
    this.finishedOnes.push(asked);
    for (const [cookie, one] of this.inFlight) if (one === asked) this.inFlight.delete(cookie);
  }
}

/** Feeds `stream` in the pieces that end at `cuts`; bytes are copied away so that nothing may be kept. */
export function feed(
  format: ReplyFormat,
  recorder: Recorder,
  stream: Uint8Array,
  cuts: readonly number[],
): void {
  const receiver = new ReplyReceiver<Asked>(format, recorder);
  let from = 0;
  for (const cut of [...cuts.filter((one) => one < stream.length), stream.length]) {
    if (cut <= from) continue;
    // 16 bytes of margin, as the bridge has, and filled with rubbish afterwards.
    const piece = new Uint8Array(16 + cut - from);
    piece.set(stream.subarray(from, cut), 16);
    receiver.receive(piece, 16, piece.length);
    piece.fill(0x55);
    from = cut;
  }
}
