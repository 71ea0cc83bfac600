// The bytes that an NBD client sends in the handshake and in the transmission phase, written only for tests.
//
// Nothing here comes from src. Numbers stand as in the NBD specification, big-endian.

import { u16, u32, u64 } from './scripted-wire.js';

/** FIXED_NEWSTYLE | NO_ZEROES. */
export const CLIENT_FLAGS = u32(3);

/** An option: magic, option, length, data. */
export function option(number: number, ...fields: readonly Uint8Array[]): Buffer {
  const data = Buffer.concat(fields);
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number), u32(data.length), data]);
}

/** A number of four bytes in front of a text, as names are sent. */
export function longText(text: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export function exportQuery(name: string, wanted: readonly number[] = []): Buffer {
  return Buffer.concat([longText(name), u16(wanted.length), ...wanted.map(u16)]);
}

/** The data of NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT. */
export function contextQuery(name: string, ...queries: readonly string[]): Buffer {
  return Buffer.concat([longText(name), u32(queries.length), ...queries.map(longText)]);
}

/** A request of the transmission phase. */
export interface RequestBytes {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: bigint | number;
  readonly length?: number;
  readonly payload?: Uint8Array;
}

/** The bytes of a request: magic, flags, type, cookie, offset, length, payload. */
export function requestBytes(request: RequestBytes): Buffer {
  const { type, flags = 0, cookie = 1n, offset = 0, payload = Buffer.alloc(0) } = request;
  const { length = payload.length } = request;
  return Buffer.concat([
    u32(0x25609513),
    u16(flags),
    u16(type),
    u64(cookie),
    u64(offset),
    u32(length),
    payload,
  ]);
}
