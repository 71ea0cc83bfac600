// One command of the Promise client, from its request to the end of its reply.
//
// Made and settled by link.ts; the reply receiver writes the fields that PendingRequest names.

import type { Coverage } from '../nbd/transmission/coverage.js';
import type { PendingRequest } from '../nbd/transmission/reply.js';

/** What is to be sent. */
export interface Command {
  /** `NBD_CMD_*`. */
  readonly type: number;
  /** `NBD_CMD_FLAG_*` or-ed. */
  readonly flags: number;
  /** Byte of the export, 0 to 2^63-1. */
  readonly offset: bigint;
  /** Bytes, within what the connection's headers and block sizes allow. */
  readonly length: number;
  /**
   * What a WRITE sends: `length` bytes that stay unchanged until the command is settled. With
   * NBD_CMD_FLAG_PAYLOAD_LEN what a BLOCK_STATUS sends: its `length` again and the numbers of contexts.
   */
  readonly payload?: Uint8Array;
  /** Where a READ's bytes go: `length` bytes. */
  readonly into?: Uint8Array;
}

/** One extent of a reply, in bytes from the offset that was asked about. */
export interface RawExtent {
  readonly length: bigint;
  readonly flags: number;
}

/** A command in flight. */
export class PendingCommand implements PendingRequest {
  readonly command: Command;
  /** The low half of the request's cookie; the high half is 0. */
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
  /** Extents by the number of their context, of a BLOCK_STATUS. */
  readonly extents = new Map<number, RawExtent[]>();
  /** Where bytes go; undefined once nobody wants them any more. */
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

  /** Settles the caller's promise; only the first call counts. */
  settle(error?: unknown): void {
    if (error === undefined) this.#resolve();
    else this.#reject(error);
  }

  /** Gives up waiting: what still comes for it is thrown away. */
  abandon(reason: unknown): void {
    this.into = undefined;
    this.#reject(reason);
  }
}
