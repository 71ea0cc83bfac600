// Connects read threads: each gets a connection of its own to the server.
//
// Owned by the file keeper of a single file. Never throws: without read threads the worker serves the file alone.

import type { ExportInfo } from '../../nbd/export-info.js';
import { reasonOf } from '../../transport/errors.js';
import type { NbdServer } from '../../transport/server.js';
import type { ReadThreadEvents } from '../../worker/contract/messages.js';
import type { Backend } from '../backend/backend.js';
import type { Clock } from '../clock.js';
import type { Report } from '../settings.js';
import { connectFurther } from './open-disk.js';

/** Milliseconds between two attempts. */
const PAUSE = 5000;

/** Milliseconds for which `stop` waits for an attempt. */
const STOP_TIME = 500;

/** Parts of ReadThreadConnections. */
export interface ReadThreadConnectionsParts {
  readonly server: NbdServer;
  readonly info: ExportInfo;
  readonly addReadThread: NonNullable<Backend['addReadThread']>;
  readonly report: Report;
  readonly clock: Clock;
}

/** See the file's head. */
export class ReadThreadConnections implements ReadThreadEvents {
  readonly #parts: ReadThreadConnectionsParts;
  readonly #stop = new AbortController();
  #work: Promise<void> | undefined;
  #missing = 0;

  constructor(parts: ReadThreadConnectionsParts) {
    this.#parts = parts;
  }

  /** Connects `count` more read threads, in as many attempts as it takes. */
  add(count: number): void {
    this.#missing += count;
    if (this.#missing === 0 || this.#stop.signal.aborted || this.#work !== undefined) return;
    this.#work = this.#connectMissing().then(() => {
      this.#work = undefined;
      // More may be missing by now.
      this.add(0);
    });
  }

  connectionLost(why: string): void {
    this.#parts.report.detail(`a read thread lost its connection: ${why}`);
    this.add(1);
  }

  /** Ends the attempt under way, without waiting for a backend that does not answer. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.race([this.#work, this.#parts.clock.wait(STOP_TIME)]);
  }

  async #connectMissing(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#missing > 0 && !signal.aborted) {
      if (await this.#connectOne()) this.#missing--;
      else await this.#parts.clock.wait(PAUSE, signal);
    }
  }

  /** Whether a read thread has started. */
  async #connectOne(): Promise<boolean> {
    const { server, info, addReadThread, report } = this.#parts;
    const { signal } = this.#stop;
    const connect = (signal: AbortSignal) => server.connect({ signal });
    const connection = await connectFurther(connect, info, report, signal);
    try {
      if (connection !== undefined && (await addReadThread(connection, this))) {
        report.detail('one more read thread');
        return true;
      }
    } catch (error) {
      report.detail(`a read thread cannot start: ${reasonOf(error)}`);
    }
    connection?.close();
    return false;
  }
}
