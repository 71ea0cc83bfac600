// One command of the Promise client, from its request to the end of its reply.
//
// Made and settled by StreamConnection; the reply receiver writes the fields of PendingRequest.

import type { RawExtent } from '../nbd/extents.js';
import type { Coverage } from '../nbd/transmission/coverage.js';
import type { PendingRequest } from '../nbd/transmission/reply.js';

/** A command. */
export interface Command {
  /** `NBD_CMD_*`. */
  readonly type: number;
  /** `NBD_CMD_FLAG_*` or-ed. */
  readonly flags: number;
  /** Offset in bytes, 0 to 2^63-1. */
  readonly offset: bigint;
  /** Length in bytes, within the limits of the connection's headers and block sizes. */
  readonly length: number;
  /**
   * Data of a WRITE: `length` bytes, unchanged until the command settles. With NBD_CMD_FLAG_PAYLOAD_LEN the payload of
   * a BLOCK_STATUS: its effect length and the ids of contexts.
   */
  readonly payload?: Uint8Array;
  /** Buffer for a READ: `length` bytes. */
  readonly into?: Uint8Array;
}

/** A command in flight. */
export class PendingCommand implements PendingRequest {
  readonly command: Command;
  /** Lower half of the cookie; the upper half is 0. */
  readonly cookie: number;
  readonly type: number;
  readonly flags: number;
  readonly length: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  covered = 0;
  coverage: Coverage | undefined;
  failure = 0;
  failureText = '';
  /** Extents of a BLOCK_STATUS, by context id. */
  readonly extents = new Map<number, RawExtent[]>();
  /** Buffer of a READ; undefined after `abandon`. */
  into: Uint8Array | undefined;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;

  constructor(command: Command, cookie: number, resolve: () => void, reject: (error: unknown) => void) {
    this.command = command;
    this.cookie = cookie;
    this.type = command.type;
    this.flags = command.flags;
    this.length = command.length;
    this.offsetHi = Number(command.offset >> 32n);
    this.offsetLo = Number(command.offset & 0xffff_ffffn);
    this.into = command.into;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Settles the promise; only the first call has an effect. */
  settle(error?: unknown): void {
    if (error === undefined) this.#resolve();
    else this.#reject(error);
  }

  /** Rejects the promise at once; the data of a later reply are dropped. */
  abandon(reason: unknown): void {
    this.into = undefined;
    this.#reject(reason);
  }
}
