// The connections of one client: chooses the least busy one for each command, and orders FLUSH.
//
// A lost connection fails its own commands; the others continue. The pool is closed when the last one is lost.

import { NBD_CMD_FLUSH } from '../nbd/constants.js';
import { NbdClosedError, type NbdError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Command, PendingCommand } from './pending-command.js';
import { lostConnection, StreamConnection } from './stream-connection.js';

export class ConnectionPool {
  /** The export, as the first connection's handshake described it. */
  readonly info: ExportInfo;
  /** Resolves with the reason of the last loss when no connection is left. */
  readonly closed: Promise<NbdError>;
  readonly #connections = new Set<StreamConnection>();
  /** Changes in progress. A FLUSH covers only answered changes, so it waits for them. */
  readonly #changes = new Set<Promise<unknown>>();
  #isClosed = false;
  #lost: NbdError = lostConnection('it was closed');
  #onClosed: (error: NbdError) => void = () => undefined;

  constructor(first: NegotiatedConnection) {
    this.info = first.info;
    this.closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    this.add(first);
  }

  /** Number of open connections. */
  get size(): number {
    return this.#connections.size;
  }

  add(negotiated: NegotiatedConnection): void {
    const connection: StreamConnection = new StreamConnection(negotiated, (error) => {
      this.#connections.delete(connection);
      this.#lost = error;
      if (this.#connections.size === 0) this.#onClosed(error);
    });
    this.#connections.add(connection);
  }

  /**
   * The least busy connection, for callers that need its ids of metadata contexts.
   * @throws NbdClosedError after `close`; the error that ended the last connection
   */
  pick(): StreamConnection {
    if (this.#isClosed) throw new NbdClosedError();
    let best: StreamConnection | undefined;
    for (const connection of this.#connections) {
      if (connection.accepting && (best === undefined || connection.load < best.load)) best = connection;
    }
    if (best === undefined) throw this.#lost;
    return best;
  }

  /** Sends a command on the least busy connection. */
  async submit(command: Command, signal?: AbortSignal): Promise<PendingCommand> {
    return this.pick().submit(command, signal);
  }

  /** Runs a change, which may consist of many commands. A later FLUSH waits for it. */
  change(action: () => Promise<void>): Promise<void> {
    const result = action();
    const settled = result.catch(() => undefined).finally(() => this.#changes.delete(settled));
    this.#changes.add(settled);
    return result;
  }

  /** Sends FLUSH when every change that began before this call is answered. */
  async flush(signal?: AbortSignal): Promise<void> {
    await Promise.all(this.#changes);
    await this.submit({ type: NBD_CMD_FLUSH, flags: 0, offset: 0n, length: 0 }, signal);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#connections].map((connection) => connection.close(new NbdClosedError())));
  }
}
