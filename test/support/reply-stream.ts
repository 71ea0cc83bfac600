// Replies of a server, laid out by hand: bytes for the tests of the reply receiver.

function number(value: bigint | number, bytes: number): number[] {
  let rest = BigInt(value);
  const out: number[] = [];
  for (let i = 0; i < bytes; i++) {
    out.unshift(Number(rest & 0xffn));
    rest >>= 8n;
  }
  return out;
}

export const u16 = (value: number): number[] => number(value, 2);
export const u32 = (value: number): number[] => number(value, 4);
export const u64 = (value: bigint | number): number[] => number(value, 8);

/** All parts in one array. */
export function bytesOf(...parts: readonly (readonly number[] | Uint8Array)[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** proto.md, "Simple reply message". */
export function simpleReply(cookie: bigint, error: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  return bytesOf([0x67, 0x44, 0x66, 0x98], u32(error), u64(cookie), data);
}

export interface Chunk {
  readonly cookie: bigint;
  readonly flags?: number;
  readonly type: number;
  readonly payload?: Uint8Array;
  /** The length that the header claims, if it is not the payload's. */
  readonly length?: number;
  /** Of an extended header. */
  readonly offset?: bigint;
}

/** proto.md, "Structured reply chunk message". */
export function structuredChunk({
  cookie,
  flags = 0,
  type,
  payload = new Uint8Array(0),
  length,
}: Chunk): Uint8Array {
  return bytesOf(
    [0x66, 0x8e, 0x33, 0xef],
    u16(flags),
    u16(type),
    u64(cookie),
    u32(length ?? payload.length),
    payload,
  );
}

/** proto.md, "Extended reply chunk message". */
export function extendedChunk(chunk: Chunk): Uint8Array {
  const { cookie, flags = 0, type, payload = new Uint8Array(0), length, offset = 0n } = chunk;
  return bytesOf(
    [0x6e, 0x8a, 0x27, 0x8c],
    u16(flags),
    u16(type),
    u64(cookie),
    u64(offset),
    u64(length ?? payload.length),
    payload,
  );
}
