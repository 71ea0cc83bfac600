// Requests of the transmission phase, laid into memory that the caller owns.
//
// Called by the bridge's and the client's send queues, once a command. Pure: no allocation, no
// socket. 64-bit values come as two unsigned halves, so that offsets up to 2^63-1 stay exact.

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

/** What a request header says; 64-bit values in unsigned 32-bit halves. */
export interface RequestHeader {
  /** Command flags, `NBD_CMD_FLAG_*` or-ed; PAYLOAD_LEN is added where a write must have it. */
  readonly flags: number;
  /** `NBD_CMD_*`. */
  readonly type: number;
  readonly cookieHi: number;
  readonly cookieLo: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  /**
   * Bytes that the command is about, or with PAYLOAD_LEN those of its payload: 0 to 2^53-1, below 2^32 with
   * compact headers.
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
 * Writes one request header at byte `at` of `view`, in network byte order, and returns its length
 * (28, or 32 when `extended`). The payload of a write follows it on the wire.
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
