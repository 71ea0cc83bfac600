// A server of one raw file that is killed, frozen and started again, on the same socket or port.
//
// Used by soaked-mount.ts and by tools/differential. With nbdkit's cache filter it has a cache, which it
// loses when it is killed: writes reach its disk only at a FLUSH.

import { closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { Program } from '../../test/support/run/program.js';
import type { Scope } from '../../test/support/run/scope.js';
import { type Listening, nbdkitCommand } from '../../test/support/run/servers.js';

/**
 * An address that clients never use, so that no client socket can take the server's port while it is down.
 */
export const HOST = '127.0.0.2';

/** Starts that may fail before the server is given up. */
const ATTEMPTS = 5;

/** Bytes of the last output of a dead server in its report. */
const LAST_WORDS = 500;

/** The files of a server: its disk, its pidfile, and its socket when it has one. */
export interface ServerFiles {
  readonly disk: string;
  readonly pidfile: string;
  readonly socket: string;
}

/** The command line that starts a server. */
export type ServerCommand = (files: ServerFiles) => readonly string[];

/** nbdkit that serves the file. @param on where it listens; undefined: on its socket @param args and filters */
export function nbdkitOfDisk(
  on: Listening | undefined,
  args: readonly string[],
  settings: readonly string[] = [],
): ServerCommand {
  return ({ disk, pidfile, socket }) =>
    nbdkitCommand(on ?? { path: socket }, pidfile, [...args, 'file', disk, ...settings]);
}

/** See the file's head. */
export class DiskServer {
  /** The disk that it serves. */
  readonly disk: string;
  /** Its port, if its command names one. */
  readonly socket: string;
  readonly #scope: Scope;
  readonly #pidfile: string;
  readonly #command: ServerCommand;
  readonly #log: string;
  readonly #died: ((why: string) => void) | undefined;
  #program: Program | undefined;
  #revival: Promise<void> = Promise.resolve();

  /**
   * @param died called after a server has ended unexpectedly and was started again; undefined: it is not
   * started again @param name of its files
   */
  constructor(
    scope: Scope,
    name: string,
    bytes: number,
    command: ServerCommand,
    died?: (why: string) => void,
  ) {
    this.#scope = scope;
    this.#died = died;
    this.#log = scope.path(`${name}.server.log`);
    this.disk = scope.path(`${name}.raw`);
    this.socket = scope.path(`${name}.server.socket`);
    this.#pidfile = scope.path(`${name}.server`);
    this.#command = command;
    writeFileSync(this.disk, '');
    truncateSync(this.disk, bytes);
  }

  /** Resolves when it listens. Tries again if another program has its port for a moment. */
  async start(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#startOnce();
        return;
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
        await this.#kill();
      }
    }
  }

  async #startOnce(): Promise<void> {
    const { disk, socket } = this;
    rmSync(this.#pidfile, { force: true });
    rmSync(socket, { force: true });
    const [command, ...args] = this.#command({ disk, socket, pidfile: this.#pidfile });
    const log = openSync(this.#log, 'a');
    const program = new Program(this.#scope, command, args, { stdio: ['ignore', 'ignore', log] });
    closeSync(log);
    this.#program = program;
    await program.fills(this.#pidfile);
    void program.ended.then((status) => {
      // Every intended end uses SIGKILL.
      if (this.#died === undefined || (status === 'SIGKILL' && program.child.killed)) return;
      const words = readFileSync(this.#log, 'utf8').slice(-LAST_WORDS).trim();
      const how = typeof status === 'number' ? `status ${status}` : status;
      this.#died(`the server ended unexpectedly (${how}: ${words})`);
      this.#revival = this.start().catch((error: Error) => this.#died?.(error.message));
    });
  }

  /** Kills it; it loses its unflushed writes. */
  async kill(): Promise<void> {
    await this.#revival;
    await this.#kill();
  }

  async #kill(): Promise<void> {
    await this.#program?.kill('SIGKILL');
  }

  get running(): boolean {
    return this.#program?.isRunning === true;
  }

  freeze(): void {
    this.#program?.child.kill('SIGSTOP');
  }

  thaw(): void {
    this.#program?.child.kill('SIGCONT');
  }
}
