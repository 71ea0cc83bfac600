// A disk with a cache that a crash empties: with it a scripted server loses unflushed writes.
//
// Used by tests of acknowledged writes. `handle` is a scripted server's handler. After `crash` the old
// connections get no answers, and close when the test closes them: as if another machine had replaced the
// server's machine unnoticed.

import type { Socket } from 'node:net';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE } from './nbd-numbers.js';
import { answerAll, type ReplyWriter } from './scripted-server.js';
import type { ScriptedRequest } from './scripted-wire.js';

/** Transmission flags of an export with FLUSH, FUA and several connections. */
export const MULTI_CONN_FLAGS = 0b1_0000_1101;

/** See the file's head. */
export class VolatileDisk {
  /** The content that survives a crash. */
  stable: Buffer;
  /** The content that clients read. */
  cached: Buffer;
  /** While this is set, FLUSHes get no reply. */
  holdsFlushes = false;
  /** Requests since the last crash, in order. Without READs, which nbdfuse uses to check a new connection. */
  log: ScriptedRequest[] = [];
  readonly #sockets = new Map<number, Socket>();
  readonly #dead = new Set<number>();

  constructor(size: number) {
    this.stable = Buffer.alloc(size);
    this.cached = Buffer.alloc(size);
  }

  readonly handle = (request: ScriptedRequest, reply: ReplyWriter): void => {
    const at = Number(request.offset);
    const { connection, type, length } = request;
    this.#sockets.set(connection, reply.socket);
    if (this.#dead.has(connection)) return;
    if (type !== NBD_CMD_READ) this.log.push(request);
    if (type === NBD_CMD_FLUSH && this.holdsFlushes) return;
    if (type === NBD_CMD_WRITE) request.payload.copy(this.cached, at);
    if (type === NBD_CMD_FLUSH) this.cached.copy(this.stable);
    if (type === NBD_CMD_READ) reply.data(this.cached.subarray(at, at + length));
    else answerAll(request, reply);
  };

  /** The numbers of the connections that have sent a request and are not dead. */
  get connections(): number[] {
    return [...this.#sockets.keys()].filter((connection) => !this.#dead.has(connection));
  }

  /** Loses the cache, and never answers again on the connections of the `clients` that have come so far. */
  crash(clients: readonly unknown[]): void {
    this.stable.copy(this.cached);
    for (const connection of clients.keys()) this.#dead.add(connection);
    this.log = [];
  }

  /** Closes one connection. */
  cut(connection: number): void {
    this.#dead.add(connection);
    this.#sockets.get(connection)?.destroy();
  }

  /** The connections with a request that is not and will not be answered, and which are not closed yet. */
  get dead(): number[] {
    return [...this.#dead].filter((connection) => this.#sockets.get(connection)?.destroyed === false);
  }
}
