// What callers of NbdClient may say besides the address: plain options, all with defaults.

import type { OpenOptions } from '../transport/server.js';
import type { ByteCount } from './ranges.js';
import type { EndpointOptions } from './target.js';

/** Calls an operation off: its promise rejects with the signal's reason. */
export interface Abortable {
  /** Fires when it is to be called off; whether a change has taken place is unknown then. */
  readonly signal?: AbortSignal | undefined;
}

/** How to connect. */
export interface ConnectOptions extends EndpointOptions, OpenOptions, Abortable {
  /**
   * Connections to spread requests over, 1 to 1024; default 1. One is used where the server does not
   * promise that several are consistent (NBD_FLAG_CAN_MULTI_CONN), or can have but one.
   */
  readonly connections?: number;
}

/** How to reach a server that is to list something. */
export interface ListOptions extends EndpointOptions, OpenOptions, Abortable {}

/** Which metadata contexts are to be listed. */
export interface ListContextsOptions extends ListOptions {
  /**
   * What to look for, each of the form `namespace:leaf-name`, at most 1024; what a leaf name finds is up to
   * the namespace: `qemu:dirty-bitmap:` finds every bitmap. Default: none, which finds all contexts.
   */
  readonly queries?: readonly string[];
}

/** How a change is to be made. */
export interface ChangeOptions extends Abortable {
  /** Whether the bytes must be on stable storage when the promise resolves (NBD_CMD_FLAG_FUA). */
  readonly fua?: boolean;
}

/** How to zero. */
export interface ZeroOptions extends ChangeOptions {
  /** Keep the range allocated (NBD_CMD_FLAG_NO_HOLE). */
  readonly noHole?: boolean;
  /** Fail with ENOTSUP rather than be as slow as writing (NBD_CMD_FLAG_FAST_ZERO). */
  readonly fastZero?: boolean;
}

/** Which extents are wanted. */
export interface BlockStatusOptions extends Abortable {
  /** Names of contexts; default: all that were agreed on. */
  readonly contexts?: readonly string[];
  /** Only the first extent of each context (NBD_CMD_FLAG_REQ_ONE). */
  readonly one?: boolean;
}

/** A range of bytes for a stream or an iteration; default: all of the export. */
export interface RangeOptions extends Abortable {
  /** First byte; default 0. */
  readonly offset?: ByteCount;
  /** Bytes; default: up to the end of the export. */
  readonly length?: ByteCount;
}
