// One connection of the Promise client in its transmission phase: sends commands and receives replies in any order.
//
// Owned by ConnectionPool. A protocol violation or the end of the stream rejects all commands in flight and calls
// `onLost` once. An error of the server rejects only its own command.

import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { ENOTCONN } from '../constants/errno.js';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE } from '../nbd/constants.js';
import { errnoFromNbd, mustDisconnect, NbdError, NbdServerError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import { decodeExtents, negotiatedContext } from '../nbd/extents.js';
import { commandName, errorName } from '../nbd/names.js';
import { printable } from '../nbd/text.js';
import type { ReplySink } from '../nbd/transmission/reply.js';
import { ReplyReceiver } from '../nbd/transmission/reply-receiver.js';
import {
  DISCONNECT,
  EXTENDED_REQUEST_LENGTH,
  encodeRequest,
  type RequestHeader,
} from '../nbd/transmission/request.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { type Command, PendingCommand } from './pending-command.js';

/** Milliseconds for the server to close the connection after NBD_CMD_DISC. */
const DISCONNECT_TIME = 2000;
/** Milliseconds for the commands in flight to finish when the connection is being closed. */
const DRAIN_TIME = 10_000;

/** Most extents of one reply, of all contexts together. The caller requests the rest again. */
const MAX_EXTENTS = 2 ** 20;

/** The error for all commands of a lost connection. */
export function lostConnection(why: string, cause?: unknown): NbdError {
  return new NbdError(`the connection to the server was lost: ${why}`, { errno: ENOTCONN, cause });
}

export class StreamConnection implements ReplySink<PendingCommand> {
  readonly info: ExportInfo;
  readonly #stream: Duplex;
  readonly #receiver: ReplyReceiver<PendingCommand>;
  readonly #inFlight = new Map<number, PendingCommand>();
  readonly #onLost: (error: NbdError) => void;
  #nextCookie = 1;
  #bytesInFlight = 0;
  #accepting = true;
  #lost: NbdError | undefined;
  #onIdle: (() => void) | undefined;

  constructor(connection: NegotiatedConnection, onLost: (error: NbdError) => void) {
    this.info = connection.info;
    this.#onLost = onLost;
    this.#receiver = new ReplyReceiver(connection.info, this);
    this.#stream = connection.takeStream();
    this.#stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#stream.on('end', () => this.#lose(lostConnection('the server closed it')));
    this.#stream.on('close', () => this.#lose(lostConnection('the server closed it')));
    this.#stream.on('error', (error) => this.#lose(lostConnection(error.message, error)));
  }

  /** Whether it takes commands: not after `close`, a loss, or the server's NBD_ESHUTDOWN. */
  get accepting(): boolean {
    return this.#accepting;
  }

  /** Load of the connection: bytes in flight, plus 4096 for each command. */
  get load(): number {
    return this.#bytesInFlight + this.#inFlight.size * 4096;
  }

  /** Sends a command. Resolves when its reply is complete; rejects if it fails. */
  submit(command: Command, signal?: AbortSignal): Promise<PendingCommand> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (!this.#accepting) throw this.#lost ?? lostConnection('it is being closed');
      const abort = () => pending.abandon(signal?.reason);
      const release = () => signal?.removeEventListener('abort', abort);
      const pending: PendingCommand = new PendingCommand(
        command,
        this.#takeCookie(),
        () => {
          release();
          resolve(pending);
        },
        (error) => {
          release();
          reject(error);
        },
      );
      signal?.addEventListener('abort', abort, { once: true });
      this.#send(pending);
    });
  }

  #takeCookie(): number {
    while (this.#inFlight.has(this.#nextCookie)) this.#nextCookie = (this.#nextCookie + 1) >>> 0;
    const cookie = this.#nextCookie;
    this.#nextCookie = (cookie + 1) >>> 0;
    return cookie;
  }

  #send(pending: PendingCommand): void {
    const { cookie } = pending;
    this.#inFlight.set(cookie, pending);
    this.#bytesInFlight += this.#weight(pending);
    const { payload } = pending.command;
    const { flags, type, offsetHi, offsetLo } = pending;
    const length = payload?.length ?? pending.length;
    if (payload !== undefined) this.#stream.cork();
    this.#stream.write(
      this.#encode({ flags, type, cookieHi: 0, cookieLo: cookie, offsetHi, offsetLo, length }),
    );
    if (payload !== undefined) {
      this.#stream.write(payload);
      this.#stream.uncork();
    }
  }

  #encode(request: RequestHeader): Buffer {
    const header = Buffer.allocUnsafe(EXTENDED_REQUEST_LENGTH);
    const view = new DataView(header.buffer, header.byteOffset, header.length);
    return header.subarray(0, encodeRequest(view, 0, this.info.extendedHeaders, request));
  }

  #weight({ type, length }: PendingCommand): number {
    return type === NBD_CMD_READ || type === NBD_CMD_WRITE ? length : 0;
  }

  #receive(chunk: Buffer): void {
    if (this.#lost !== undefined) return;
    try {
      this.#receiver.receive(chunk, 0, chunk.length);
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
    for (const pending of unanswered) pending.settle(error);
    this.#onIdle?.();
    this.#onLost(error);
  }

  /** Waits for the commands in flight, sends NBD_CMD_DISC, and resolves when the stream is closed. */
  async close(): Promise<void> {
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
      this.#lost = lostConnection('it was closed');
      this.#stream.end(this.#encode(DISCONNECT));
    }
    if (!this.#stream.closed) {
      const timer = setTimeout(() => this.#stream.destroy(), DISCONNECT_TIME);
      await once(this.#stream, 'close').catch(() => undefined);
      clearTimeout(timer);
    }
    if (leaving && this.#lost !== undefined) this.#onLost(this.#lost);
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
    const { id } = negotiatedContext(this.info, contextId);
    const found = pending.extents.get(id) ?? [];
    const most = Math.ceil(MAX_EXTENTS / this.info.metaContexts.length);
    for (const extent of decodeExtents(payload, start, wide)) {
      if (found.length === most) break;
      found.push(extent);
    }
    pending.extents.set(id, found);
  }

  finished(pending: PendingCommand, error: number, text: string): void {
    this.#inFlight.delete(pending.cookie);
    this.#bytesInFlight -= this.#weight(pending);
    pending.settle(error === 0 ? undefined : refusedCommand(pending, error, text));
    // The client must leave (proto.md, "Terminating the transmission phase"): no new commands, then DISC.
    if (mustDisconnect(error) && this.#accepting) void this.close();
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
