// Connections that were given up because the server did not answer, until the server has closed them too.
//
// Owned by a Disk. The server may still carry out what it was sent over such a connection, later than what
// goes out over the next one: an old write would win over a newer one. So nothing goes out until the server
// has come to the end of what it was sent, which it shows by closing; or, with another connection there to
// be used, until that has taken too long.

import type { Connection } from './connection.js';

/** Milliseconds for which a connection that could be used waits for those that were given up. */
const MOST_PATIENCE = 10_000;

/** Connections that are kept: a server that never wakes must not cost more and more. */
const MOST_KEPT = 64;

/** See the file's head. */
export class Farewells {
  #connections: Connection[] = [];
  #deadline = Number.POSITIVE_INFINITY;

  /** Whether something that was sent may still be carried out. */
  get pending(): boolean {
    return this.#connections.length > 0;
  }

  /** Takes a connection on which nothing more will be sent. */
  add(connection: Connection): void {
    this.#connections.push(connection);
    while (this.#connections.length > MOST_KEPT) this.#connections.shift()?.close();
  }

  /** There is a connection that could be used: the waiting is bounded from now on. */
  bound(now: number): void {
    this.#deadline = Math.min(this.#deadline, now + MOST_PATIENCE);
  }

  /** Looks after them; true when there is nothing to wait for any more. */
  isOver(now: number): boolean {
    this.#connections = this.#connections.filter((connection) => {
      const isOver = now >= this.#deadline || connection.discard();
      if (isOver) connection.close();
      return !isOver;
    });
    if (this.pending) return false;
    this.#deadline = Number.POSITIVE_INFINITY;
    return true;
  }

  /** Closes them all. */
  close(): void {
    for (const connection of this.#connections) connection.close();
    this.#connections = [];
  }
}
