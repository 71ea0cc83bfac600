// The connections of one client: chooses the least busy one for each command, and orders FLUSH.
//
// The only place from which commands go to connections, so it keeps the invariant of change-ledger.ts. A lost
// connection fails its own changes. With `waits`, other requests go to another connection, and wait until there is one;
// without it, they fail with their connection, and the pool is closed when the last one is lost.

import { ESHUTDOWN } from '../constants/errno.js';
import { PeerProcesses } from '../linux/peer.js';
import { type ByteRange, overlaps } from '../nbd/byte-range.js';
import { NBD_CMD_CACHE, NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_READ } from '../nbd/constants.js';
import { NbdClosedError, type NbdError, NbdServerError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { ChangeLedger, type ServerProcesses } from './change-ledger.js';
import { lostConnection, rangeInDoubt, unflushedLost, unknownChange } from './loss-errors.js';
import { type Command, type PendingCommand, submitTo } from './pending-command.js';
import { type ConnectionEnd, type ConnectionOwner, StreamConnection } from './stream-connection.js';
import { WaitingList } from './waiting-list.js';

/** A lost connection, as the owner of the pool learns of it. */
export interface Loss {
  readonly error: NbdError;
  /** The number of connections left. */
  readonly left: number;
  /** Whether it answered a request, or had none and broke no rule. */
  readonly madeProgress: boolean;
}

/** How a pool treats lost connections. */
export interface PoolOptions {
  /** Whether requests wait for a connection: the owner adds one, or calls `fail` or `end`. Default: false. */
  readonly waits?: boolean;
  /** Milliseconds after a loss in which the server has made or dropped its changes. Default: Infinity. */
  readonly settleTime?: number;
  /** Called for each lost connection until `close`. */
  readonly onLost?: ((loss: Loss) => void) | undefined;
}

/** A change in progress, which may consist of many commands. */
interface Change {
  readonly range: ByteRange;
  readonly signal: AbortSignal | undefined;
  /** Resolves when the server has answered all its commands, or their connections are lost. */
  over: Promise<unknown>;
}

/** A connection as the pool knows it. */
interface Member {
  /** Its number in the ledger. */
  readonly number: number;
  readonly processes: ServerProcesses | undefined;
}

/** Whether a request has no effect and can go to any connection; a BLOCK_STATUS may have numbers of its connection. */
function mayMove({ type }: PendingCommand): boolean {
  return type === NBD_CMD_READ || type === NBD_CMD_CACHE;
}

/** Whether a server that shuts down has not made a request. */
function isTurnedAway(error: unknown): boolean {
  return error instanceof NbdServerError && error.errno === ESHUTDOWN;
}

function rangeOf({ command: { offset, length } }: PendingCommand): ByteRange {
  return { start: offset, end: offset + BigInt(length) };
}

export class ConnectionPool implements ConnectionOwner {
  /** The export, as the first connection's handshake described it. */
  readonly info: ExportInfo;
  /** Resolves with the reason when the pool has no connection and gets no other. */
  readonly closed: Promise<NbdError>;
  readonly #waits: boolean;
  readonly #onLost: (loss: Loss) => void;
  readonly #ledger: ChangeLedger;
  readonly #processes = new PeerProcesses();
  readonly #connections = new Map<StreamConnection, Member>();
  readonly #waiting = new WaitingList();
  /** Changes in progress, also those whose caller has left. A FLUSH covers only answered changes, so it waits for them. */
  readonly #changes = new Set<Change>();
  #isClosed = false;
  #lost: NbdError = lostConnection('it was closed');
  /** Why requests fail instead of waiting, if they do. */
  #failure: NbdError | undefined;
  #onClosed: (error: NbdError) => void = () => undefined;

  constructor(info: ExportInfo, { waits = false, settleTime, onLost }: PoolOptions = {}) {
    this.info = info;
    this.#waits = waits;
    this.#onLost = onLost ?? (() => undefined);
    this.#ledger = new ChangeLedger(settleTime ?? Number.POSITIVE_INFINITY);
    this.closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
  }

  /** Number of open connections. */
  get size(): number {
    return this.#connections.size;
  }

  /** Adds a connection, which belongs to the pool. @throws TransportError if it has ended; NbdClosedError */
  add(negotiated: NegotiatedConnection): void {
    if (this.#isClosed) throw new NbdClosedError();
    const peer = negotiated.takePeer();
    const processes = peer === undefined ? undefined : this.#processes.adopt(peer);
    try {
      const connection = new StreamConnection(negotiated, this);
      this.#connections.set(connection, { number: this.#ledger.made(), processes });
    } catch (error) {
      processes?.release();
      throw error;
    }
    this.#failure = undefined;
    this.#resume();
  }

  /** Fails requests that wait for a connection, now and until `add`. */
  fail(error: NbdError): void {
    this.#failure = error;
    this.#waiting.fail(error);
  }

  /** There will be no further connection. */
  end(error: NbdError): void {
    this.#lost = error;
    this.fail(error);
    if (this.#connections.size > 0) return;
    this.#ledger.close();
    this.#onClosed(error);
  }

  /** Returns a function to call when the server of all connections lost so far has ended. */
  whenServerEnds(): () => void {
    return this.#ledger.whenServerEnds();
  }

  /** The least busy of the connections with a number up to `newest`. @throws NbdClosedError after `close` */
  #choose(newest: number): StreamConnection | undefined {
    if (this.#isClosed) throw new NbdClosedError();
    let best: StreamConnection | undefined;
    for (const [connection, { number }] of this.#connections) {
      if (!connection.accepting || number > newest) continue;
      if (best === undefined || connection.load < best.load) best = connection;
    }
    return best;
  }

  /** Sends a command, which `settled` reports the end of. @throws NbdError, or the signal's reason, if it is not sent */
  send(pending: PendingCommand, signal?: AbortSignal): void {
    const connection = this.#choose(Number.POSITIVE_INFINITY);
    if (connection === undefined) {
      this.#checkWaiting();
      this.#wait(pending, signal);
      return;
    }
    if (pending.changesDisk) this.#checkChange(pending);
    connection.send(pending, signal);
  }

  /** Sends a command. Resolves when its reply is complete. */
  submit(command: Command, signal?: AbortSignal): Promise<PendingCommand> {
    return submitTo(this, command, signal);
  }

  /** Sends a command when there is a connection. @param signal its signal if it was not sent before */
  #wait(pending: PendingCommand, signal?: AbortSignal): void {
    const fail = (error: unknown): void => pending.settle(error);
    this.#waiting.add({ go: () => this.send(pending, signal), fail }, signal ?? pending.signal);
  }

  /** Keeps the first two rules of the invariant. @throws NbdError */
  #checkChange(pending: PendingCommand): void {
    if (pending.wasSent) throw new Error('internal error: a change is sent a second time');
    if (!this.#ledger.hasDoubts) return;
    const { start, end } = rangeOf(pending);
    if (this.#ledger.isInDoubt(start, end, performance.now())) throw rangeInDoubt(pending.command);
  }

  /** @throws NbdError if requests do not wait */
  #checkWaiting(): void {
    if (!this.#waits) throw this.#lost;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Calls `send` with a connection: again with another one if that is lost meanwhile and the pool waits. For requests
   * without effect that a connection's numbers or the order of connections concern.
   * @param newest the highest number that the connection may have
   */
  async onConnection<T>(
    send: (connection: StreamConnection) => Promise<T>,
    signal?: AbortSignal,
    newest = () => Number.POSITIVE_INFINITY,
  ): Promise<T> {
    for (;;) {
      const connection = this.#choose(newest());
      if (connection === undefined) {
        this.#checkWaiting();
        await new Promise<void>((go, fail) => this.#waiting.add({ go, fail }, signal));
        continue;
      }
      try {
        return await send(connection);
      } catch (error) {
        if (!this.#waits || (error !== connection.lost && !isTurnedAway(error))) throw error;
      }
    }
  }

  /**
   * Runs a change of a range. A signal ends the promise, but not the commands that were sent: a later FLUSH, and later
   * changes that overlap the range, wait for these.
   * @param action sends the commands, each with the signal
   */
  change(range: ByteRange, action: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    const result = this.#afterAbandoned(range, action);
    const change: Change = { range, signal, over: Promise.resolve() };
    change.over = result.catch(() => undefined).finally(() => this.#changes.delete(change));
    this.#changes.add(change);
    return unlessAborted(result, signal);
  }

  /** Runs `action` when no change of these bytes is in progress whose caller has left. */
  #afterAbandoned({ start, end }: ByteRange, action: () => Promise<void>): Promise<void> {
    const older: Change[] = [];
    for (const change of this.#changes) {
      const { range, signal } = change;
      if (signal?.aborted === true && overlaps(range.start, range.end, start, end)) older.push(change);
    }
    return older.length === 0 ? action() : this.#allOver(older).then(action);
  }

  async #allOver(changes: Iterable<Change>): Promise<void> {
    await Promise.all([...changes].map(({ over }) => over));
  }

  /** A ticket for `flush`, to take before the first change that the flush must cover. */
  flushTicket(): number {
    return this.#ledger.flushBegins();
  }

  /**
   * Sends FLUSH when every change that began before this call is answered. @throws NbdError; see change-ledger.ts
   * @param ticket the flush also rejects for a loss after this ticket that another flush has reported
   */
  async flush(signal?: AbortSignal, ticket = this.flushTicket()): Promise<void> {
    const ledger = this.#ledger;
    await unlessAborted(this.#allOver(this.#changes), signal);
    const flush = async (connection: StreamConnection): Promise<void> => {
      const last = ledger.flushSent();
      await connection.submit({ type: NBD_CMD_FLUSH, flags: 0, offset: 0n, length: 0 }, signal);
      ledger.flushed(last);
    };
    const newest = (): number => {
      // Without waiting there is no other server that could have forgotten them: the loss itself is the reason.
      if (this.#waits && ledger.mustFail(ticket)) throw unflushedLost();
      return ledger.coveredBy;
    };
    await this.onConnection(flush, signal, newest);
  }

  answered(pending: PendingCommand): void {
    if (pending.changesDisk && (pending.flags & NBD_CMD_FLAG_FUA) === 0) this.#ledger.answered();
  }

  turnedAway(pending: PendingCommand, refusal: NbdServerError): void {
    const isOver = pending.isSettled || pending.signal?.aborted === true;
    if (!this.#waits || this.#isClosed || isOver || !(pending.changesDisk || mayMove(pending))) {
      pending.settle(refusal);
      return;
    }
    pending.reset();
    try {
      this.send(pending);
    } catch (error) {
      pending.settle(error);
    }
  }

  lost(connection: StreamConnection, { error, unanswered, madeProgress }: ConnectionEnd): void {
    const member = this.#connections.get(connection);
    this.#connections.delete(connection);
    this.#lost = error;
    const changes = unanswered.filter((pending) => pending.changesDisk).map(rangeOf);
    if (member !== undefined) this.#ledger.lost(member.number, changes, performance.now(), member.processes);
    for (const pending of unanswered) this.#afterLoss(pending, error);
    const left = this.#connections.size;
    if (left === 0 && (this.#isClosed || !this.#waits)) this.end(error);
    if (this.#isClosed) return;
    this.#onLost({ error, left, madeProgress });
    this.#resume();
  }

  /** Decides about a request whose connection is lost. */
  #afterLoss(pending: PendingCommand, error: NbdError): void {
    if (pending.changesDisk) pending.settle(unknownChange(pending.command, error));
    else if (!this.#waits || this.#isClosed || !mayMove(pending)) pending.settle(error);
    else if (!pending.isSettled) {
      pending.reset();
      this.#wait(pending);
    }
  }

  /** Sends the requests that wait, if there is a connection. */
  #resume(): void {
    this.#waiting.go(() => !this.#isClosed && this.#choose(Number.POSITIVE_INFINITY) !== undefined);
  }

  /** Waits for the commands in flight and disconnects. Requests that wait for a connection reject. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const closed = new NbdClosedError();
    this.#waiting.fail(closed);
    await Promise.all([...this.#connections.keys()].map((connection) => connection.close(closed)));
    // If it had no connection, nothing else has ended it.
    this.end(closed);
  }
}

/** The result of a promise, or the signal's reason, whichever comes first. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
