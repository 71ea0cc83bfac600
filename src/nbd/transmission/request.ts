// Encodes requests of the transmission phase into memory of the caller.
//
// Called by the worker and by the Promise client, once a command. Pure, without allocation. 64-bit values are two
// unsigned 32-bit halves, exact up to 2^63-1.

import {
  NBD_CMD_DISC,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_WRITE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
} from '../constants.js';

/** Length in bytes of a compact request header (proto.md, "Request message"). */
export const REQUEST_LENGTH = 28;

/** Length in bytes of an extended request header (proto.md, "Extended request message"). */
export const EXTENDED_REQUEST_LENGTH = 32;

/** The fields of a request header; 64-bit values as unsigned 32-bit halves. */
export interface RequestHeader {
  /** Command flags, `NBD_CMD_FLAG_*` or-ed; PAYLOAD_LEN is added where a write needs it. */
  readonly flags: number;
  /** `NBD_CMD_*`. */
  readonly type: number;
  readonly cookieHi: number;
  readonly cookieLo: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  /**
   * Length of the range in bytes, or of the payload with PAYLOAD_LEN: 0 to 2^53-1; below 2^32 with compact headers.
   */
  readonly length: number;
}

/** NBD_CMD_DISC, which has no reply. */
export const DISCONNECT: RequestHeader = {
  flags: 0,
  type: NBD_CMD_DISC,
  cookieHi: 0,
  cookieLo: 0,
  offsetHi: 0,
  offsetLo: 0,
  length: 0,
};

/**
 * Writes a request header at byte `at` of `view`, big-endian. Returns its length in bytes: 28, or 32 if `extended`. The
 * payload of a write follows it in the stream.
 */
export function encodeRequest(view: DataView, at: number, extended: boolean, request: RequestHeader): number {
  view.setUint32(at, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
  const ofPayload = extended && request.type === NBD_CMD_WRITE ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
  view.setUint16(at + 4, request.flags | ofPayload);
  view.setUint16(at + 6, request.type);
  view.setUint32(at + 8, request.cookieHi);
  view.setUint32(at + 12, request.cookieLo);
  view.setUint32(at + 16, request.offsetHi);
  view.setUint32(at + 20, request.offsetLo);
  if (!extended) {
    view.setUint32(at + 24, request.length);
    return REQUEST_LENGTH;
  }
  const lengthHi = Math.floor(request.length / 2 ** 32);
  view.setUint32(at + 24, lengthHi);
  view.setUint32(at + 28, request.length - lengthHi * 2 ** 32);
  return EXTENDED_REQUEST_LENGTH;
}
