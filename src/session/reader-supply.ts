// Makes the connections of read threads, and adds the threads to the backend.
//
// Owned by a DiskKeeper. Never throws: without read threads the worker serves alone.

import type { ExportInfo } from '../nbd/export-info.js';
import type { NbdServer } from '../transport/server.js';
import type { Backend } from './backend.js';
import type { Clock } from './clock.js';
import { connectFurther } from './disk.js';
import type { Report } from './settings.js';

/** Milliseconds to wait after a failed attempt. */
const RESPITE = 5000;

/** Milliseconds that `stop` waits for the current attempt. */
const STOP_TIME = 500;

/** The parts of a ReaderSupply. */
export interface ReaderSupplyParts {
  readonly server: NbdServer;
  readonly info: ExportInfo;
  readonly addReader: NonNullable<Backend['addReader']>;
  readonly report: Report;
  readonly clock: Clock;
}

/** See the file's head. */
export class ReaderSupply {
  readonly #parts: ReaderSupplyParts;
  readonly #stop = new AbortController();
  #work: Promise<void> | undefined;
  #missing = 0;
  #notBefore = Number.NEGATIVE_INFINITY;

  constructor(parts: ReaderSupplyParts) {
    this.#parts = parts;
  }

  /** Tries to add a read thread, unless an attempt is running. */
  wanted(): void {
    if (this.#parts.clock.now() >= this.#notBefore) this.#begin(() => this.#supply());
  }

  /** Adds `count` more read threads, with retries. */
  keep(count: number): void {
    this.#missing += count;
    if (this.#missing > 0) this.#begin(() => this.#supplyMissing());
  }

  /** Ends the current attempt; does not wait long for a backend that does not answer. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.race([this.#work, this.#parts.clock.wait(STOP_TIME)]);
  }

  #begin(work: () => Promise<unknown>): void {
    if (this.#stop.signal.aborted || this.#work !== undefined) return;
    this.#work = work().then(() => {
      this.#work = undefined;
      // More threads may be missing by now.
      this.keep(0);
    });
  }

  async #supplyMissing(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#missing > 0 && !signal.aborted) {
      if (await this.#supply()) this.#missing--;
      else await this.#parts.clock.wait(RESPITE, signal);
    }
  }

  /** Adds a read thread; false when that fails. */
  async #supply(): Promise<boolean> {
    const { server, info, addReader, report, clock } = this.#parts;
    const { signal } = this.#stop;
    const connect = (signal: AbortSignal) => server.connect({ signal });
    const connection = await connectFurther(connect, info, report, signal);
    try {
      if (connection !== undefined && (await addReader(connection))) {
        report.detail('added a read thread');
        return true;
      }
    } catch (error) {
      report.detail(`cannot add a read thread: ${String(error)}`);
    }
    connection?.close();
    this.#notBefore = clock.now() + RESPITE;
    return false;
  }
}
