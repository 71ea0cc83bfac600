// One server for many files: each connects by itself, but a child is started again for all of them.
//
// Owned by the ExportFolder. A child that has ended is started again with --restart, and without it when
// nothing is connected: then nobody loses anything by it. qemu-nbd ends by itself when its last client has
// left, which may be the one that has just asked for the list.

import type { ExportInfo, ListedExport } from '../../nbd/export-info.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import { TransportError } from '../../transport/errors.js';
import type { NbdServer } from '../../transport/server.js';
import { isRelayCommand } from './lost-server.js';

/** Milliseconds in which exports are asked about, one after the other, when a list is had. */
const DESCRIBE_TIME = 1500;
/** Exports of a list that are asked about again each time. */
const MOST_DESCRIBED_AGAIN = 256;

/** Who uses a shared server. */
export interface ServerUses {
  /** Whether any file is connected to it. */
  isUsed(): boolean;
  /** Its child will be started anew; what this returns is called when it has ended with all that it had started. */
  restarts(): () => void;
}

/** See the file's head. */
export class SharedServer {
  readonly server: NbdServer;
  readonly #restart: boolean;
  readonly #uses: ServerUses;
  #reviving: Promise<void> | undefined;

  /** @param restart whether a child is started again although files are connected to it */
  constructor(server: NbdServer, restart: boolean, uses: ServerUses) {
    this.server = server;
    this.#restart = restart;
    this.#uses = uses;
  }

  /** Whether a file that has lost its connection may get another. */
  get reconnectable(): boolean {
    return this.server.reconnectable || this.#restart;
  }

  async connect(exportName: string, signal: AbortSignal): Promise<NegotiatedConnection> {
    await this.#revive();
    return this.server.connect({ exportName, signal });
  }

  /** @param first whether as many exports as there is time for are asked about, not only as many as each time */
  async list(signal: AbortSignal, first: boolean): Promise<ListedExport[]> {
    await this.#revive();
    const end = performance.now() + DESCRIBE_TIME;
    return this.server.list({
      signal,
      describe: (_, count) => (first || count <= MOST_DESCRIBED_AGAIN) && performance.now() < end,
    });
  }

  async describe(exportName: string, signal: AbortSignal): Promise<ExportInfo> {
    await this.#revive();
    return this.server.describe({ exportName, signal });
  }

  async #revive(): Promise<void> {
    const { exited } = this.server;
    if (this.#reviving === undefined && exited !== undefined) {
      const exit = await Promise.race([exited, Promise.resolve()]);
      if (exit === undefined) return;
      if (!this.#restart && this.#uses.isUsed()) throw new TransportError('the server has ended');
      const end = isRelayCommand(this.server) ? undefined : this.server.groupEnded();
      const ended = this.#uses.restarts();
      this.#reviving ??= this.server.restart().finally(() => {
        this.#reviving = undefined;
      });
      void end?.then(ended);
    }
    await this.#reviving;
  }
}
