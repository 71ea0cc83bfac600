// The options of NbdClient, all with defaults.

import type { OpenOptions } from '../transport/server.js';
import type { ByteCount } from './ranges.js';
import type { EndpointOptions } from './target.js';

/** Options of an operation that can be aborted: its promise then rejects with the signal's reason. */
export interface Abortable {
  /**
   * Aborts the operation. Whether a change has taken place is unknown then; later changes of the same bytes, and flushes,
   * wait until the server has answered it.
   */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a client, which both `connect` and `over` take. */
export interface ClientOptions extends Abortable {
  /**
   * Number of connections, 1 to 1024; default 1. Only one is used if the server does not promise that several are
   * consistent (NBD_FLAG_CAN_MULTI_CONN), or accepts only one.
   */
  readonly connections?: number;
  /**
   * Seconds that requests wait for a lost server, 0 or more; Infinity: for ever. The client connects again until it is
   * closed. Default: it does not, and is closed with its last connection. Not for `command` and `fd`.
   */
  readonly reconnect?: number;
  /**
   * Seconds after the end of a connection by which the server has made or dropped every change of that connection, 0 or
   * more. Default: Infinity.
   */
  readonly settleTime?: number;
}

/** Options of a connection. */
export interface ConnectOptions extends EndpointOptions, OpenOptions, ClientOptions {}

/** Options of a client of an open server. */
export interface OverOptions extends ClientOptions {
  /** Called by `close` when the connections are closed; `close` waits for it. */
  readonly onClosed?: () => Promise<void> | void;
}

/** Options for listing exports. */
export interface ListOptions extends EndpointOptions, OpenOptions, Abortable {}

/** Options for listing metadata contexts. */
export interface ListContextsOptions extends ListOptions {
  /**
   * Queries, each of the form `namespace:leaf-name`, at most 1024. The namespace defines the matches:
   * `qemu:dirty-bitmap:` matches every bitmap. Default: none, which matches all contexts.
   */
  readonly queries?: readonly string[];
}

/** Options of a change. */
export interface ChangeOptions extends Abortable {
  /** Whether the data must be on stable storage when the promise resolves (NBD_CMD_FLAG_FUA). */
  readonly fua?: boolean;
}

/** Options of `zero`. */
export interface ZeroOptions extends ChangeOptions {
  /** Keep the range allocated (NBD_CMD_FLAG_NO_HOLE). */
  readonly noHole?: boolean;
  /** Fail with ENOTSUP rather than be as slow as a write (NBD_CMD_FLAG_FAST_ZERO). */
  readonly fastZero?: boolean;
}

/** Options of `blockStatus`. */
export interface BlockStatusOptions extends Abortable {
  /** Names of contexts; default: all negotiated ones. */
  readonly contexts?: readonly string[];
  /** Return only the first extent of each context (NBD_CMD_FLAG_REQ_ONE). */
  readonly one?: boolean;
  /** Return only the extents of the server's first answer, which may cover less than the range. */
  readonly partial?: boolean;
}

/** Options of a stream, like those of node:fs. */
export interface StreamOptions extends Abortable {
  /** First byte, 0 by default. The same as `offset`. */
  readonly start?: ByteCount;
  /** Bytes that the stream requests ahead, or that it may have in flight; default 4 MiB. */
  readonly highWaterMark?: number;
}

/** Options of a stream that reads. */
export interface ReadStreamOptions extends StreamOptions, RangeOptions {
  /** Last byte, included as in node:fs; default: the last one of the export. Not with `length`. */
  readonly end?: ByteCount;
}

/** Options of a stream that writes. */
export interface WriteStreamOptions extends StreamOptions {
  /** First byte, 0 by default. */
  readonly offset?: ByteCount;
}

/** A range of bytes for a stream or an iteration; default: the whole export. */
export interface RangeOptions extends Abortable {
  /** First byte; default 0. */
  readonly offset?: ByteCount;
  /** Length in bytes; default: up to the end of the export. */
  readonly length?: ByteCount;
}
