// One connection of the Promise client in its transmission phase: sends commands and receives replies in any order.
//
// Owned by ConnectionPool. At a protocol violation or the end of the stream the pool gets all commands in flight, once.
// An error of the server rejects only its own command.

import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE } from '../nbd/constants.js';
import { errnoFromNbd, mustDisconnect, NbdError, NbdProtocolError, NbdServerError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import { decodeExtents, negotiatedContext } from '../nbd/extents.js';
import { commandName, errorName } from '../nbd/names.js';
import { printable } from '../nbd/text.js';
import type { ReplySink } from '../nbd/transmission/reply.js';
import { ReplyReceiver } from '../nbd/transmission/reply-receiver.js';
import { DISCONNECT } from '../nbd/transmission/request.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { type ByteReceiver, ReceivingSocket } from '../transport/receiving-socket.js';
import { lostConnection } from './loss-errors.js';
import { type Command, type PendingCommand, submitTo } from './pending-command.js';
import { RequestBatch } from './request-batch.js';

/** Milliseconds for the server to close the connection after NBD_CMD_DISC. */
const DISCONNECT_TIME = 2000;
/** Milliseconds for the commands in flight to finish when the connection is being closed. */
const DRAIN_TIME = 10_000;

/** Most extents of one reply, of all contexts together. The caller requests the rest again. */
const MAX_EXTENTS = 2 ** 20;

/** Bytes of memory for replies, and for the data of short reads, which are copied from there. */
const RECEIVE_SIZE = 256 * 1024;

/** Bytes of a read's data from which on they go straight into the caller's buffer. */
const DIRECT_SIZE = 32 * 1024;

/** Bytes to receive while such data come next: their header and little of themselves, which must be copied. */
const BEFORE_DIRECT = 16 * 1024;

/** How a connection ended. */
export interface ConnectionEnd {
  readonly error: NbdError;
  /** The commands without a reply, which the owner settles, or sends on another connection. */
  readonly unanswered: readonly PendingCommand[];
  /** Whether it answered a command, or had none and broke no rule. */
  readonly madeProgress: boolean;
}

/** The owner of a connection. */
export interface ConnectionOwner {
  /** A command was answered with success, also one that was aborted. */
  answered(pending: PendingCommand): void;
  /**
   * The server is shutting down and has not made a command. The connection takes none any more.
   * @param refusal the server's answer
   */
  turnedAway(pending: PendingCommand, refusal: NbdServerError): void;
  /** The connection has ended. */
  lost(connection: StreamConnection, end: ConnectionEnd): void;
}

/** A read that can be aborted gives its buffer back at any time, so its data are copied. */
function isDirect(pending: PendingCommand): boolean {
  return pending.type === NBD_CMD_READ && pending.length >= DIRECT_SIZE && !pending.isAbortable;
}

export class StreamConnection implements ReplySink<PendingCommand>, ByteReceiver {
  readonly info: ExportInfo;
  readonly #stream: Duplex;
  readonly #receiver: ReplyReceiver<PendingCommand>;
  readonly #batch: RequestBatch;
  readonly #inFlight = new Map<number, PendingCommand>();
  readonly #owner: ConnectionOwner;
  #nextCookie = 1;
  #bytesInFlight = 0;
  /** Reads in flight whose data go straight into their buffers. */
  #directReads = 0;
  #memory: Buffer | undefined;
  /** Whether the memory for the next bytes is the buffer of the read that they belong to. */
  #arrivesInPlace = false;
  #accepting = true;
  #hasAnswered = false;
  #lost: NbdError | undefined;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  /** Why it is closed, for the owner. */
  #reason = lostConnection('it was closed');

  constructor(connection: NegotiatedConnection, owner: ConnectionOwner) {
    this.info = connection.info;
    this.#owner = owner;
    this.#receiver = new ReplyReceiver(connection.info, this);
    const stream = connection.takeStream();
    this.#stream = stream;
    this.#batch = new RequestBatch(stream, connection.info.extendedHeaders);
    this.#stream.on('end', () => this.#lose(lostConnection('the server closed it')));
    this.#stream.on('close', () => this.#lose(lostConnection('the server closed it')));
    this.#stream.on('error', (error) => this.#lose(lostConnection(error.message, error)));
    // Bytes that came early may end it, which the owner must learn after it has the connection.
    queueMicrotask(() => this.#begin());
  }

  #begin(): void {
    const stream = this.#stream;
    if (stream instanceof ReceivingSocket) stream.receive(this);
    else stream.on('data', (chunk: Buffer) => this.received(chunk.length, chunk));
  }

  /** Whether it takes commands: not after `close`, a loss, or the server's NBD_ESHUTDOWN. */
  get accepting(): boolean {
    return this.#accepting;
  }

  /** Why it has ended; undefined before. */
  get lost(): NbdError | undefined {
    return this.#lost;
  }

  /** Load of the connection: bytes in flight, plus 4096 for each command. */
  get load(): number {
    return this.#bytesInFlight + this.#inFlight.size * 4096;
  }

  /** Sends a command. Resolves when its reply is complete; rejects if it fails. */
  submit(command: Command, signal?: AbortSignal): Promise<PendingCommand> {
    return submitTo(this, command, signal);
  }

  /** Sends a command, which `settled` reports the end of. @throws NbdError if it takes none; the signal's reason */
  send(pending: PendingCommand, signal?: AbortSignal): void {
    if (!this.#accepting) throw this.#lost ?? lostConnection('it is being closed');
    if (signal !== undefined) pending.abortBy(signal);
    pending.wasSent = true;
    pending.cookieLo = this.#takeCookie();
    this.#inFlight.set(pending.cookieLo, pending);
    this.#bytesInFlight += this.#weight(pending);
    if (isDirect(pending)) this.#directReads++;
    const { payload } = pending.command;
    // With PAYLOAD_LEN the header has the length of the payload.
    const header = payload === undefined ? pending : pending.headerOf(payload);
    this.#batch.add(header, payload);
  }

  #takeCookie(): number {
    while (this.#inFlight.has(this.#nextCookie)) this.#nextCookie = (this.#nextCookie + 1) >>> 0;
    const cookie = this.#nextCookie;
    this.#nextCookie = (cookie + 1) >>> 0;
    return cookie;
  }

  #weight({ type, length }: PendingCommand): number {
    return type === NBD_CMD_READ || type === NBD_CMD_WRITE ? length : 0;
  }

  memory(): Uint8Array {
    this.#memory ??= Buffer.allocUnsafeSlow(RECEIVE_SIZE);
    this.#arrivesInPlace = false;
    if (this.#directReads === 0 || this.#lost !== undefined) return this.#memory;
    const { payloadPending, payloadRequest, payloadAt } = this.#receiver;
    if (payloadPending < BEFORE_DIRECT || payloadRequest?.into === undefined || !isDirect(payloadRequest))
      return this.#memory.subarray(0, BEFORE_DIRECT);
    this.#arrivesInPlace = true;
    return payloadRequest.into.subarray(payloadAt, payloadAt + payloadPending);
  }

  received(count: number, bytes: Uint8Array): void {
    if (this.#lost !== undefined) return;
    try {
      if (this.#arrivesInPlace) this.#receiver.landed(count);
      else this.#receiver.receive(bytes, 0, count);
    } catch (error) {
      this.#lose(error instanceof NbdError ? error : lostConnection(String(error), error));
    }
  }

  #lose(error: NbdError): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    this.#accepting = false;
    this.#stream.destroy();
    const unanswered = [...this.#inFlight.values()];
    this.#inFlight.clear();
    this.#bytesInFlight = 0;
    this.#directReads = 0;
    this.#onIdle?.();
    const broke = error instanceof NbdProtocolError;
    const madeProgress = this.#hasAnswered || (unanswered.length === 0 && !broke);
    this.#owner.lost(this, { error, unanswered, madeProgress });
  }

  /**
   * Waits for the commands in flight, sends NBD_CMD_DISC, and resolves when the stream is closed. Further calls return the
   * same promise.
   * @param reason for the owner, if nothing else ends the connection; that of the last call counts
   */
  close(reason: NbdError = lostConnection('it was closed')): Promise<void> {
    this.#reason = reason;
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#accepting = false;
    if (this.#inFlight.size > 0) {
      const timer = setTimeout(() => this.#lose(lostConnection('the server did not answer')), DRAIN_TIME);
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
      clearTimeout(timer);
    }
    const leaving = this.#lost === undefined;
    if (leaving) {
      this.#lost = this.#reason;
      this.#batch.add(DISCONNECT, undefined);
      this.#batch.flush();
      this.#stream.end();
    }
    if (!this.#stream.closed) {
      const timer = setTimeout(() => this.#stream.destroy(), DISCONNECT_TIME);
      await once(this.#stream, 'close').catch(() => undefined);
      clearTimeout(timer);
    }
    if (leaving) this.#owner.lost(this, { error: this.#reason, unanswered: [], madeProgress: true });
  }

  find(cookieHi: number, cookieLo: number): PendingCommand | undefined {
    return cookieHi === 0 ? this.#inFlight.get(cookieLo) : undefined;
  }

  data(pending: PendingCommand, at: number, bytes: Uint8Array, start: number, end: number): void {
    pending.into?.set(bytes.subarray(start, end), at);
  }

  wholeData(pending: PendingCommand, bytes: Uint8Array, start: number): void {
    this.data(pending, 0, bytes, start, start + pending.length);
  }

  hole(pending: PendingCommand, at: number, length: number): void {
    pending.into?.fill(0, at, at + length);
  }

  extents(pending: PendingCommand, contextId: number, payload: DataView, start: number, wide: boolean): void {
    const found = pending.extentsOf(negotiatedContext(this.info, contextId).id);
    const most = Math.ceil(MAX_EXTENTS / this.info.metaContexts.length);
    for (const extent of decodeExtents(payload, start, wide)) {
      if (found.length === most) break;
      found.push(extent);
    }
  }

  finished(pending: PendingCommand, error: number, text: string): void {
    this.#inFlight.delete(pending.cookieLo);
    if (isDirect(pending)) this.#directReads--;
    this.#bytesInFlight -= this.#weight(pending);
    this.#hasAnswered = true;
    if (mustDisconnect(error)) {
      // The client must leave (proto.md, "Terminating the transmission phase"): no new commands, then DISC.
      if (this.#accepting) void this.close();
      this.#owner.turnedAway(pending, refusedCommand(pending, error, text));
    } else {
      if (error === 0) this.#owner.answered(pending);
      pending.settle(error === 0 ? undefined : refusedCommand(pending, error, text));
    }
    if (this.#inFlight.size === 0) this.#onIdle?.();
  }
}

function refusedCommand(pending: PendingCommand, error: number, text: string): NbdServerError {
  const { type, length } = pending;
  const about = type === NBD_CMD_FLUSH ? '' : ` of ${length} bytes at ${pending.command.offset}`;
  const said = text === '' ? '' : `; the server says: ${printable(text)}`;
  const message = `${commandName(type)}${about} failed: ${errorName(error)}${said}`;
  return new NbdServerError(message, { errno: errnoFromNbd(error), serverText: text });
}
