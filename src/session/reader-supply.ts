// Gives a backend that has more to do than one thread can the connections of further ones.
//
// Owned by a DiskKeeper. Never throws: without them, one thread goes on by itself.

import type { ExportInfo } from '../nbd/export-info.js';
import type { NbdServer } from '../transport/server.js';
import type { Backend } from './backend.js';
import type { Clock } from './clock.js';
import { connectFurther } from './disk.js';
import type { Report } from './settings.js';

/** Milliseconds for which a server that gave no connection is not asked for another. */
const RESPITE = 5000;

/** Milliseconds. */
const STOP_TIME = 500;

/** What it is made with. */
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

  /** Tries to give away one connection, unless that is being done. */
  wanted(): void {
    if (this.#parts.clock.now() >= this.#notBefore) this.#begin(() => this.#supply());
  }

  /** Gives away `count` more, however often it has to be tried. */
  keep(count: number): void {
    this.#missing += count;
    if (this.#missing > 0) this.#begin(() => this.#supplyMissing());
  }

  /** Ends the attempt that is under way; a backend that does not answer is not waited for. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.race([this.#work, this.#parts.clock.wait(STOP_TIME)]);
  }

  #begin(work: () => Promise<unknown>): void {
    if (this.#stop.signal.aborted || this.#work !== undefined) return;
    this.#work = work().then(() => {
      this.#work = undefined;
      // More may be missing since the last look.
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

  /** Whether a connection could be given away. */
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
