// What the reply receiver needs to know of a request in flight, and what it tells about its reply.
//
// Implemented by the bridge (Command) and by the client (PendingCommand). Everything here is called
// synchronously from ReplyReceiver.receive(); nothing may call back into the receiver.

import type { Coverage } from './coverage.js';

/** The kinds of reply header that a connection has negotiated. */
export interface ReplyFormat {
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
}

/** A command whose reply has not been completed. The receiver owns the fields that it may write. */
export interface PendingRequest {
  /** `NBD_CMD_*`. */
  readonly type: number;
  /** `NBD_CMD_FLAG_*` as sent. */
  readonly flags: number;
  /** Bytes asked for. */
  readonly length: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  /** Bytes of a READ, or contexts of a BLOCK_STATUS, that chunks have answered. 0 when sent. */
  covered: number;
  /** Runs answered out of order; of a BLOCK_STATUS the answered contexts' ids. Undefined when sent. */
  coverage: Coverage | undefined;
  /** The first `NBD_E*` that a chunk has told. 0 when sent. */
  failure: number;
  /** What the server said of it, unescaped, at most 4096 bytes. Empty when sent. */
  failureText: string;
}

/** Where a reply's contents go. `P` is the owner's kind of pending request. */
export interface ReplySink<P extends PendingRequest> {
  /** The request in flight with this cookie, or undefined: then the connection ends. */
  find(cookieHi: number, cookieLo: number): P | undefined;
  /**
   * Some bytes of a READ: `bytes[start, end)` belong at byte `at` of its range. The memory is the caller's again when
   * the call returns.
   */
  data(request: P, at: number, bytes: Uint8Array, start: number, end: number): void;
  /**
   * All bytes of a READ, from byte `start` of `bytes` on. `finished` follows at once, and until then the sink may
   * overwrite the 16 bytes before `start`.
   */
  wholeData(request: P, bytes: Uint8Array, start: number): void;
  /** A run of `length` zero bytes at byte `at` of what was asked. */
  hole(request: P, at: number, length: number): void;
  /**
   * Extents of one meta context: `payload` holds pairs of (length, flags) from byte `start` on,
   * each number 32 bits, or 64 when `wide`.
   */
  extents(request: P, contextId: number, payload: DataView, start: number, wide: boolean): void;
  /** The reply is whole. `error` is 0 or the server's `NBD_E*`; `text` what it said, unescaped. */
  finished(request: P, error: number, text: string): void;
}
