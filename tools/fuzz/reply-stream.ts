// Decodes instructions in a test case into a server's stream of replies.
//
// Used by the targets that have requests in flight: a chunk names one of them, with an offset near its range
// and a length near the right one, so that the stream also reaches the later rules.

import type { ReplyFormat } from '../../src/nbd/transmission/reply.js';
import type { NaiveRequest } from '../../test/support/naive-receiver.js';
import {
  bytesOf,
  extendedChunk,
  simpleReply,
  structuredChunk,
  u16,
  u32,
  u64,
} from '../../test/support/reply-stream.js';
import type { Input } from './input.js';

const TYPES = [1, 2, 0, 5, 6, 0x8001, 0x8002, 3, 0x8003, 1];
const ERRORS = [0, 1, 5, 22, 75, 108, 0x12345678];
/** Errors to add to a right length or offset. */
const SLIPS: readonly bigint[] = [0n, 0n, 0n, 0n, 1n, -1n, 8n, 2n ** 32n, 2n ** 63n, -(2n ** 31n)];

/** Bytes of one chunk's data: more than any READ here requests. */
const MOST_DATA = 200_000;

/** Bytes that count up, so that a misplaced one is detected. */
const RAMP = Uint8Array.from({ length: MOST_DATA + 256 }, (_, i) => i & 0xff);

const wrap64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const wrap32 = (value: bigint): number => Number(BigInt.asUintN(32, value));

function data(input: Input, { offset, length }: NaiveRequest): Uint8Array {
  const from = Math.min(input.u8() * Math.ceil(length / 8), length);
  const count = Math.max(Math.ceil((length * (1 + (input.u8() & 7))) / 8), 1);
  const place = u64(wrap64(offset + BigInt(from) + input.pick(SLIPS)));
  const present = Math.min(count, Math.max(length - from, 1), MOST_DATA);
  const first = input.u8();
  return bytesOf(place, RAMP.subarray(first, first + present));
}

function hole(input: Input, { offset, length }: NaiveRequest): Uint8Array {
  const from = Math.min(input.u8() * Math.ceil(length / 8), length);
  const count = BigInt(Math.ceil((length * (1 + (input.u8() & 7))) / 8)) + input.pick(SLIPS);
  return bytesOf(u64(wrap64(offset + BigInt(from) + input.pick(SLIPS))), u32(wrap32(count)));
}

function status(input: Input, wide: boolean): Uint8Array {
  const count = input.u8() & 15;
  const number = wide ? u64 : u32;
  const extents = Array.from({ length: count }, () => [...number(input.u16() * 512), ...number(input.u8())]);
  const slip = (input.u8() & 15) === 15 ? 1 : 0;
  return bytesOf(u32(input.u8() & 3), wide ? u32(count + slip) : [], extents.flat());
}

function error(input: Input, { offset }: NaiveRequest, withOffset: boolean): Uint8Array {
  const text = input.bytes(input.u8() & 31);
  const slip = (input.u8() & 15) === 15 ? 1 : 0;
  const place = withOffset ? u64(wrap64(offset + BigInt(input.u8()) + input.pick(SLIPS))) : [];
  return bytesOf(u32(input.pick(ERRORS)), u16(text.length + slip), text, place);
}

function payloadOf(type: number, input: Input, request: NaiveRequest): Uint8Array {
  switch (type) {
    case 1:
      return data(input, request);
    case 2:
      return hole(input, request);
    case 5:
    case 6:
      return status(input, type === 6);
    case 0x8001:
    case 0x8002:
    case 0x8003:
      return error(input, request, type === 0x8002);
    default:
      return input.bytes(input.u8() & 15);
  }
}

function reply(
  input: Input,
  format: ReplyFormat,
  requests: readonly (readonly [bigint, NaiveRequest])[],
): Uint8Array {
  const [cookie, request] = input.pick(requests);
  const choice = input.u8();
  if ((choice & 0x80) !== 0) return input.bytes(choice & 63);
  if (!format.structuredReplies || (choice & 0x70) === 0x70) {
    const code = (choice & 3) === 0 ? input.pick(ERRORS) : 0;
    const right = code === 0 && request.type === 0 ? request.length : 0;
    return simpleReply(cookie, code, new Uint8Array(right).fill(choice));
  }
  const type = TYPES[(choice & 15) % TYPES.length];
  const flags = (choice & 16) !== 0 ? 1 : 0;
  const payload = payloadOf(type, input, request);
  const slip = (choice & 0x60) === 0x60 ? input.pick(SLIPS) : 0n;
  const length = BigInt(payload.length) + slip;
  if (!format.extendedHeaders)
    return structuredChunk({ cookie, flags, type, payload, length: wrap32(length) });
  const offset = wrap64(request.offset + ((choice & 0x60) === 0x20 ? input.pick(SLIPS) : 0n));
  // Lengths have 64 bits here, and may exceed the exact range of a number.
  const head = extendedChunk({ cookie, flags, type, payload: new Uint8Array(0), offset }).subarray(0, 24);
  return bytesOf(head, u64(wrap64(length)), payload);
}

/** The stream that the rest of `input` describes; no chunk begins beyond `most` bytes. */
export function makeStream(
  input: Input,
  format: ReplyFormat,
  requests: ReadonlyMap<bigint, NaiveRequest>,
  most: number,
): Uint8Array {
  const all = [...requests];
  const parts: Uint8Array[] = [];
  for (let size = 0; input.left > 0 && size < most; ) {
    const part = reply(input, format, all);
    parts.push(part);
    size += part.length;
  }
  return bytesOf(...parts);
}
