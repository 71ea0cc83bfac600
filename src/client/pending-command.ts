// One command of the Promise client, from its request to the end of its reply.
//
// ConnectionPool decides what becomes of it after a loss; the reply receiver writes the fields of PendingRequest.

import { NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../nbd/constants.js';
import type { RawExtent } from '../nbd/extents.js';
import type { Coverage } from '../nbd/transmission/coverage.js';
import type { PendingRequest } from '../nbd/transmission/reply.js';
import type { RequestHeader } from '../nbd/transmission/request.js';

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

/** Called once, with the error of a command that failed. */
export type Settled = (pending: PendingCommand, error: unknown) => void;

const NO_EXTENTS: ReadonlyMap<number, readonly RawExtent[]> = new Map();

/** A command in flight; also the fields of its request header. */
export class PendingCommand implements PendingRequest, RequestHeader {
  readonly command: Command;
  readonly cookieHi = 0;
  /** The connection sets it. */
  cookieLo = 0;
  readonly type: number;
  readonly flags: number;
  readonly length: number;
  readonly offsetHi: number;
  readonly offsetLo: number;
  covered = 0;
  coverage: Coverage | undefined;
  failure = 0;
  failureText = '';
  /** Whether a connection has taken it, and the server may have made it. */
  wasSent = false;
  /** Buffer of a READ; undefined after an abort. */
  into: Uint8Array | undefined;
  #extents: Map<number, RawExtent[]> | undefined;
  #settled: Settled | undefined;
  #signal: AbortSignal | undefined;
  #abort: (() => void) | undefined;

  constructor(command: Command, settled: Settled) {
    this.command = command;
    this.type = command.type;
    this.flags = command.flags;
    this.length = command.length;
    this.offsetHi = Number(command.offset >> 32n);
    this.offsetLo = Number(command.offset & 0xffff_ffffn);
    this.into = command.into;
    this.#settled = settled;
  }

  /** Extents of a BLOCK_STATUS, by context id. */
  get extents(): ReadonlyMap<number, readonly RawExtent[]> {
    return this.#extents ?? NO_EXTENTS;
  }

  /** The extents of one context so far, to add to. */
  extentsOf(contextId: number): RawExtent[] {
    this.#extents ??= new Map();
    const known = this.#extents.get(contextId);
    if (known !== undefined) return known;
    const extents: RawExtent[] = [];
    this.#extents.set(contextId, extents);
    return extents;
  }

  /** The header of a request that carries `payload`: with PAYLOAD_LEN it has the length of that. */
  headerOf(payload: Uint8Array): RequestHeader {
    if (payload.length === this.length) return this;
    const { flags, type, cookieHi, cookieLo, offsetHi, offsetLo } = this;
    return { flags, type, cookieHi, cookieLo, offsetHi, offsetLo, length: payload.length };
  }

  /** Whether it is a WRITE, WRITE_ZEROES or TRIM. */
  get changesDisk(): boolean {
    const { type } = this;
    return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES || type === NBD_CMD_TRIM;
  }

  /** The signal of its caller. It ends the command before the reply comes, except a change that was sent. */
  get signal(): AbortSignal | undefined {
    return this.#signal;
  }

  /** Whether its end was reported. */
  get isSettled(): boolean {
    return this.#settled === undefined;
  }

  /** Makes it as new, so that it can be sent again: the server has not made it, or it has no effect. */
  reset(): void {
    this.wasSent = false;
    this.covered = 0;
    this.coverage = undefined;
    this.failure = 0;
    this.failureText = '';
  }

  /** Whether a signal may end it before the reply comes. */
  get isAbortable(): boolean {
    return this.#signal !== undefined;
  }

  /**
   * Abandons the command when the signal fires. A change goes on until its reply or the loss of its connection, since
   * the server may still make it. @throws the signal's reason if it has fired already
   */
  abortBy(signal: AbortSignal): void {
    signal.throwIfAborted();
    this.#signal = signal;
    if (this.changesDisk) return;
    this.#abort = () => this.#abandon(signal.reason);
    signal.addEventListener('abort', this.#abort, { once: true });
  }

  /** Reports the end of the command; only the first call has an effect. */
  settle(error?: unknown): void {
    const settled = this.#settled;
    this.#settled = undefined;
    if (this.#abort !== undefined) this.#signal?.removeEventListener('abort', this.#abort);
    settled?.(this, error);
  }

  /** Reports the failure at once; the data of a later reply are dropped. */
  #abandon(reason: unknown): void {
    this.into = undefined;
    this.settle(reason);
  }
}

/** Takes commands, each of which reports its end. */
interface Sender {
  send(pending: PendingCommand, signal?: AbortSignal): void;
}

/** Sends a command. Resolves when its reply is complete; rejects if it fails, or is not sent. */
export function submitTo(sender: Sender, command: Command, signal?: AbortSignal): Promise<PendingCommand> {
  return new Promise((resolve, reject) => {
    const settled = (pending: PendingCommand, error: unknown) =>
      error === undefined ? resolve(pending) : reject(error);
    sender.send(new PendingCommand(command, settled), signal);
  });
}
