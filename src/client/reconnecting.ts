// Connects a pool to its server again when it has lost connections.
//
// Made by client.ts, one per client with the option `reconnect`. Attempts continue after the time limit has failed the
// requests that wait, so that the client works again when the server returns.

import { setTimeout as delay } from 'node:timers/promises';
import { ENOTCONN } from '../constants/errno.js';
import { NbdError } from '../nbd/errors.js';
import { sameExport } from '../nbd/export-info.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { reasonOf } from '../transport/errors.js';
import { ReconnectPolicy } from '../transport/reconnect-policy.js';
import type { ConnectionPool, Loss } from './connection-pool.js';
import { lostConnection, noServer } from './loss-errors.js';

/** Longest time of a timer in milliseconds. */
const LONGEST_WAIT = 2 ** 31 - 1;

/** The news for the owner. */
export interface ReconnectEvents {
  /** No connection is left. */
  readonly reconnecting: () => void;
  /** There is a connection again, after so many seconds without one. */
  readonly reconnected: (seconds: number) => void;
  /** A server was found that has not the same export. */
  readonly refused: (error: NbdError) => void;
}

/** How to connect again. */
export interface ReconnectSettings {
  /** Milliseconds that requests wait for a server; 0 to Infinity. */
  readonly limit: number;
  readonly connect: (signal: AbortSignal) => Promise<NegotiatedConnection>;
  /** Whether the server has ended for good. */
  readonly isOver: () => boolean;
  readonly events: ReconnectEvents;
}

/** Resolves after that time, or when the signal fires. */
async function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
  await delay(Math.min(milliseconds, LONGEST_WAIT), undefined, { signal }).catch(() => undefined);
}

/** See the file's head. */
export class Reconnecting {
  readonly #pool: ConnectionPool;
  readonly #settings: ReconnectSettings;
  readonly #policy: ReconnectPolicy;
  readonly #stop = new AbortController();
  /** The number of connections to make. */
  #missing = 0;
  #work: Promise<void> | undefined;
  /** The time without a connection; undefined while there is one. */
  #outage: { readonly since: number; readonly over: AbortController } | undefined;
  #lastReason = '';

  constructor(pool: ConnectionPool, settings: ReconnectSettings) {
    this.#pool = pool;
    this.#settings = settings;
    this.#policy = new ReconnectPolicy(settings.limit, Math.random);
  }

  /** The pool has lost a connection. */
  lost({ error, left, madeProgress }: Loss): void {
    if (this.#stop.signal.aborted) return;
    const now = performance.now();
    this.#missing++;
    this.#lastReason = error.message;
    this.#policy.lost(now, left === 0, madeProgress);
    if (left === 0) {
      this.#outage = { since: now, over: new AbortController() };
      this.#settings.events.reconnecting();
      void this.#expire(this.#outage.over.signal);
    }
    this.#begin();
  }

  /** Ends all attempts. Resolves when none is running. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#outage?.over.abort();
    await this.#work;
  }

  /** Fails the requests that wait when the time limit is over. @param over fires at the end of the outage */
  async #expire(over: AbortSignal): Promise<void> {
    const left = (): number => this.#policy.expiresAt - performance.now();
    if (left() === Number.POSITIVE_INFINITY) return;
    while (left() > 0) {
      await wait(left(), over);
      if (over.aborted) return;
    }
    const seconds = Math.round((performance.now() - this.#policy.outageAt) / 1000);
    this.#pool.fail(noServer(seconds, this.#lastReason));
  }

  #begin(): void {
    this.#work ??= this.#reconnect().finally(() => {
      this.#work = undefined;
      if (this.#missing > 0 && !this.#stop.signal.aborted && !this.#settings.isOver()) this.#begin();
    });
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#stop;
    let pause = this.#policy.nextPause();
    while (this.#missing > 0) {
      if (pause > 0) await wait(pause, signal);
      if (signal.aborted) return;
      pause = (await this.#tryOnce(signal)) ? 0 : this.#policy.nextPause();
      if (signal.aborted || this.#missing === 0 || !this.#settings.isOver()) continue;
      if (this.#pool.size === 0) this.#pool.end(lostConnection(this.#lastReason));
      return;
    }
  }

  /** One attempt. Returns whether it gave a connection. */
  async #tryOnce(signal: AbortSignal): Promise<boolean> {
    try {
      const connection = await this.#settings.connect(signal);
      const difference = signal.aborted ? 'closed' : sameExport(this.#pool.info, connection.info);
      if (difference !== undefined) {
        connection.close();
        if (!signal.aborted) this.#refuse(difference);
        return false;
      }
      this.#missing--;
      this.#policy.connected(performance.now());
      try {
        this.#pool.add(connection);
      } catch (error) {
        this.#missing++;
        throw error;
      }
      this.#endOutage();
      return true;
    } catch (error) {
      this.#lastReason = reasonOf(error);
      return false;
    }
  }

  #refuse(difference: string): void {
    this.#lastReason = `the server came back with another export: ${difference}`;
    this.#settings.events.refused(new NbdError(this.#lastReason, { errno: ENOTCONN }));
  }

  #endOutage(): void {
    if (this.#outage === undefined) return;
    const { since, over } = this.#outage;
    this.#outage = undefined;
    over.abort();
    this.#settings.events.reconnected((performance.now() - since) / 1000);
  }
}
