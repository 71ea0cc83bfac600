// One server for many files: each file has its own connections, but a restart of the child concerns all of them.
//
// Owned by the ExportDirectoryKeeper. Restarts a child that has ended: with --restart always, without it only when no
// file is connected, since nothing is lost then. qemu-nbd ends when its last client leaves, which may be the connection
// that has just listed the exports.

import type { ExportInfo, ListedExport } from '../../nbd/export-info.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import { TransportError } from '../../transport/errors.js';
import type { NbdServer } from '../../transport/server.js';
import { isProxyCommand } from './lost-server.js';

/** Milliseconds for the descriptions of exports, one after the other, when listing. */
const DESCRIBE_TIME = 1500;
/** Maximum length of a list whose exports are described again each time. */
const MOST_DESCRIBED_AGAIN = 256;

/** The users of a shared server. */
export interface ServerUses {
  /** Whether any file is connected to it. */
  isUsed(): boolean;
  /** The child is about to restart. The result is called when the old child and all of its processes have ended. */
  restarts(): () => void;
}

/** See the file's head. */
export class SharedServer {
  readonly server: NbdServer;
  readonly #restart: boolean;
  readonly #uses: ServerUses;
  #reviving: Promise<void> | undefined;

  /** @param restart whether to restart a child although files are connected to it */
  constructor(server: NbdServer, restart: boolean, uses: ServerUses) {
    this.server = server;
    this.#restart = restart;
    this.#uses = uses;
  }

  /** Whether a file that has lost its connection can get another. */
  get reconnectable(): boolean {
    return this.server.reconnectable || this.#restart;
  }

  async connect(exportName: string, signal: AbortSignal): Promise<NegotiatedConnection> {
    await this.#revive();
    return this.server.connect({ exportName, signal });
  }

  /** @param first describe as many exports as there is time for, however long the list */
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
      const end = isProxyCommand(this.server) ? undefined : this.server.groupEnded();
      const ended = this.#uses.restarts();
      this.#reviving ??= this.server.restart().finally(() => {
        this.#reviving = undefined;
      });
      void end?.then(ended);
    }
    await this.#reviving;
  }
}
