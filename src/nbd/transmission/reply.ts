// The interfaces of the reply receiver: requests in flight, and the receiver of replies.
//
// Implemented by the worker (NbdCommand) and by the Promise client (PendingCommand). ReplyReceiver.receive() calls the
// methods synchronously; they must not call it back.

import type { Coverage } from './coverage.js';

/** The negotiated kinds of reply headers. */
export interface ReplyFormat {
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
}

/** A command whose reply is not complete. The receiver writes the fields that are not readonly. */
export interface PendingRequest {
  /** `NBD_CMD_*`. */
  readonly type: number;
  /** `NBD_CMD_FLAG_*` as sent. */
  readonly flags: number;
  /** Length in bytes. */
  readonly length: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  /** Bytes of a READ, or contexts of a BLOCK_STATUS, that chunks have answered. Initially 0. */
  covered: number;
  /** Ranges answered out of order; the ids of the answered contexts of a BLOCK_STATUS. Initially undefined. */
  coverage: Coverage | undefined;
  /** The `NBD_E*` of the first error chunk. Initially 0. */
  failure: number;
  /** The server's text about it, not escaped, at most 4096 bytes. Initially empty. */
  failureText: string;
}

/** Receives the contents of replies. `P` is the caller's kind of pending request. */
export interface ReplySink<P extends PendingRequest> {
  /** The request in flight with this cookie; undefined ends the connection. */
  find(cookieHi: number, cookieLo: number): P | undefined;
  /** Data of a READ: `bytes[start, end)` belong at offset `at` of the request. Valid during the call. */
  data(request: P, at: number, bytes: Uint8Array, start: number, end: number): void;
  /**
   * All data of a READ, from byte `start` of `bytes` on. `finished` follows at once, and until then the sink may
   * overwrite the 16 bytes before `start`.
   */
  wholeData(request: P, bytes: Uint8Array, start: number): void;
  /** `length` zero bytes at offset `at` of the request. */
  hole(request: P, at: number, length: number): void;
  /**
   * Extents of one metadata context: pairs of (length, flags) in `payload` from byte `start` on, each number 32 bits,
   * or 64 if `wide`.
   */
  extents(request: P, contextId: number, payload: DataView, start: number, wide: boolean): void;
  /** The reply is complete. @param error 0 or the server's `NBD_E*` @param text the server's text, not escaped */
  finished(request: P, error: number, text: string): void;
}
