// The connections of one client: picks the least busy for each command, and orders FLUSH.
//
// Used by block-io.ts, block-status.ts and client.ts. A lost connection takes its own commands with it;
// the others go on. When the last is gone the group is closed.

import { NBD_CMD_FLUSH } from '../nbd/constants.js';
import type { NbdError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Command, PendingCommand } from './pending-command.js';
import { lostConnection, StreamConnection } from './stream-connection.js';

export class ConnectionPool {
  /** What the first connection's handshake found out. */
  readonly info: ExportInfo;
  /** Resolves when no connection is left, with why the last one ended. */
  readonly closed: Promise<NbdError>;
  readonly #connections = new Set<StreamConnection>();
  /** Changes that are under way: a FLUSH must wait for their replies to cover them. */
  readonly #changes = new Set<Promise<unknown>>();
  #lost: NbdError = lostConnection('it was closed');
  #onClosed: (error: NbdError) => void = () => undefined;

  constructor(first: NegotiatedConnection) {
    this.info = first.info;
    this.closed = new Promise((resolve) => {
      this.#onClosed = resolve;
    });
    this.add(first);
  }

  /** Live connections. */
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

  /** The link to use next, for what must know it (numbers of contexts differ between connections). */
  pick(): StreamConnection {
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

  /** Runs a change of the export, which may be many commands, so that a later FLUSH waits for it. */
  change(action: () => Promise<void>): Promise<void> {
    const result = action();
    const settled = result.catch(() => undefined).finally(() => this.#changes.delete(settled));
    this.#changes.add(settled);
    return result;
  }

  /** Sends FLUSH once every change that was begun before this call has been answered. */
  async flush(signal?: AbortSignal): Promise<void> {
    await Promise.all(this.#changes);
    await this.submit({ type: NBD_CMD_FLUSH, flags: 0, offset: 0n, length: 0 }, signal);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }
}
