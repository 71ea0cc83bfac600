// Keeps one file connected: replaces lost connections as the policy says.
//
// Made by connected-disk.ts, one per file; the file keeper calls `lost` for each connection that the data path has
// lost. Never blocks or throws. A new connection belongs to `attach`. Reconnecting continues after the time limit has
// failed the file, so that the mount recovers when the server returns.

import { type ExportInfo, sameExport } from '../../nbd/export-info.js';
import type { ReconnectPolicy } from '../../transport/reconnect-policy.js';
import type { LossOutcome } from '../../worker/contract/messages.js';
import type { Clock } from '../clock.js';
import type { Report } from '../settings.js';

/** A connection that was made and is not used yet. */
export interface FreshConnection {
  readonly info: ExportInfo;
  close(): void;
}

/** The dependencies of a reconnector. */
export interface ReconnectorOptions<C extends FreshConnection> {
  /** The file's name, for messages. */
  readonly name: string;
  /** The export as it was at the start; a new connection must lead to the same. */
  readonly info: ExportInfo;
  readonly policy: ReconnectPolicy;
  readonly clock: Clock;
  readonly report: Pick<Report, 'line' | 'detail'>;
  /** Makes a connection; undefined where reconnecting is impossible. */
  readonly connect: ((signal: AbortSignal) => Promise<C>) | undefined;
  /** Hands a connection over to the file's data path. */
  readonly attach: (slot: number, connection: C) => void;
  /** Makes requests fail with EIO from now until a new connection is accepted. */
  readonly fail: (why: string) => void;
  /** Whether the server has ended for good. */
  readonly isOver: () => boolean;
  /** Explains a loss better than `why`, for example by the exit of a child server. */
  readonly explain: (why: string) => Promise<string>;
}

/** See the file's head. */
export class Reconnector<C extends FreshConnection> {
  readonly #options: ReconnectorOptions<C>;
  readonly #alive = new Set<number>();
  /** The live connections that the data path uses. */
  readonly #accepted = new Set<number>();
  readonly #lost = new Set<number>();
  readonly #stop = new AbortController();
  #work: Promise<void> | undefined;
  #outageAt = 0;
  /** Whether no connection is in use. */
  #isOut = false;
  /** Whether the user knows of the outage. */
  #isReported = false;
  #failed = false;
  #lastReason = '';

  constructor(options: ReconnectorOptions<C>) {
    this.#options = options;
  }

  /** Whether requests of the file fail because there is no server. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Hands over a connection that the session has made; `accepted` follows. */
  attach(slot: number, connection: C): void {
    const wasLost = this.#lost.delete(slot);
    this.#alive.add(slot);
    try {
      this.#options.attach(slot, connection);
    } catch (error) {
      this.#alive.delete(slot);
      if (wasLost) this.#lost.add(slot);
      throw error;
    }
  }

  /** The data path uses an attached connection. An additional connection that arrives late ends an outage too. */
  accepted(slot: number): void {
    if (!this.#alive.has(slot)) return;
    const { policy, report, name, clock } = this.#options;
    this.#accepted.add(slot);
    this.#failed = false;
    if (!this.#isOut) return;
    this.#isOut = false;
    const now = clock.now();
    policy.connected(now);
    if (!this.#isReported) return;
    this.#isReported = false;
    report.line(`${name}: reconnected after ${((now - this.#outageAt) / 1000).toFixed(1)} s`, 'info');
  }

  /** The data path has lost the connection in `slot`. */
  lost(slot: number, why: string, { madeProgress, otherDisk }: LossOutcome): void {
    if (this.#stop.signal.aborted || !this.#alive.delete(slot)) return;
    const { clock, policy, report, name } = this.#options;
    this.#accepted.delete(slot);
    const last = this.#accepted.size === 0;
    policy.lost(clock.now(), last, madeProgress);
    this.#lost.add(slot);
    this.#lastReason = why;
    if (last && otherDisk) {
      if (!this.#isOut) this.#outageAt = clock.now();
      this.#isOut = true;
      this.#fail(
        why,
        `${name}: the server came back with another disk: ${why}; reads and writes fail with EIO`,
      );
    } else if (last && !this.#isOut) {
      this.#isOut = true;
      this.#outageAt = clock.now();
      void this.#reportOutage(why);
    } else report.detail(`${name}: connection ${slot} lost: ${why}`);
    this.#begin();
  }

  /** Ends all attempts; resolves when none is running. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  #begin(): void {
    if (this.#options.connect === undefined || this.#options.isOver()) return;
    this.#work ??= this.#reconnect(this.#options.connect).finally(() => {
      this.#work = undefined;
      if (this.#lost.size > 0 && !this.#stop.signal.aborted) this.#begin();
    });
  }

  async #reportOutage(why: string): Promise<void> {
    const { connect, isOver, explain, report, name } = this.#options;
    const outage = this.#outageAt;
    const reason = await explain(why);
    if (this.#stop.signal.aborted) return;
    if (connect === undefined || isOver()) {
      this.#failForGood(reason);
      return;
    }
    if (!this.#isOut || this.#outageAt !== outage) return;
    this.#isReported = true;
    report.line(`${name}: the server is lost: ${reason}; reconnecting`);
    await this.#expire();
  }

  /** Fails the file if the policy's time runs out before a connection is made. */
  async #expire(): Promise<void> {
    const { clock, policy, name } = this.#options;
    const outage = this.#outageAt;
    const time = policy.expiresAt - clock.now();
    if (time === Number.POSITIVE_INFINITY) return;
    await clock.wait(Math.max(time, 0), this.#stop.signal);
    if (this.#stop.signal.aborted || !this.#isOut || this.#outageAt !== outage) return;
    const seconds = Math.round((clock.now() - policy.outageAt) / 1000);
    const waited = seconds > 0 ? `no server for ${seconds} s` : 'no server';
    const why = this.#lastReason;
    this.#fail(why, `${name}: ${waited}: ${why}; reads and writes fail with EIO until it is back`);
  }

  #failForGood(why: string): void {
    const { name } = this.#options;
    this.#fail(why, `${name}: the server is lost: ${why}; reads and writes fail with EIO from now on`);
  }

  #fail(why: string, line: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#isReported = true;
    this.#options.report.line(line);
    this.#options.fail(why);
  }

  async #reconnect(connect: (signal: AbortSignal) => Promise<C>): Promise<void> {
    const { clock, policy, isOver, explain } = this.#options;
    const { signal } = this.#stop;
    let pause = policy.nextPause();
    for (;;) {
      if (pause > 0) await clock.wait(pause, signal);
      if (signal.aborted) return;
      const slot = Math.min(...this.#lost);
      pause = (await this.#tryOnce(slot, connect)) ? 0 : policy.nextPause();
      if (this.#lost.size === 0) return;
      if (isOver()) {
        const reason = await explain(this.#lastReason);
        if (!signal.aborted && this.#accepted.size === 0) this.#failForGood(reason);
        return;
      }
    }
  }

  /** One attempt; true when it gave a connection. */
  async #tryOnce(slot: number, connect: (signal: AbortSignal) => Promise<C>): Promise<boolean> {
    const { info, policy, report, name, clock } = this.#options;
    const { signal } = this.#stop;
    try {
      const connection = await connect(signal);
      const difference = signal.aborted ? 'stopping' : sameExport(info, connection.info);
      if (difference === undefined) {
        policy.connected(clock.now());
        this.attach(slot, connection);
        return true;
      }
      connection.close();
      if (signal.aborted) return false;
      const line = `${name}: the server came back with another export: ${difference}`;
      this.#lastReason = difference;
      if (this.#accepted.size === 0) this.#fail(difference, `${line}; reads and writes fail with EIO`);
    } catch (error) {
      this.#lastReason = error instanceof Error ? error.message : String(error);
      if (!signal.aborted) report.detail(`${name}: cannot reconnect: ${this.#lastReason}`);
    }
    return false;
  }
}
