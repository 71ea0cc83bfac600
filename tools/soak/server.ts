// A server of one raw file that is killed, frozen and started again, on the same socket or port.
//
// Used by lane.ts and by tools/differential. With nbdkit's cache filter it has a cache of its own, which it loses when
// it is killed: writes reach its disk at a FLUSH alone.

import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { start, whenEnded, whenWritten } from '../bench/processes.js';

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

/** The words that start a server. */
export type ServerWords = (files: ServerFiles) => readonly string[];

/** nbdkit, listening as `listening` says (nothing: on its socket), with filters before the file. */
export function nbdkitWords(
  filters: readonly string[],
  listening: readonly string[] | undefined,
  settings: readonly string[] = [],
): ServerWords {
  return ({ disk, pidfile, socket }) => [
    'nbdkit',
    '-f',
    '-P',
    pidfile,
    ...(listening ?? ['-U', socket]),
    ...filters.map((filter) => `--filter=${filter}`),
    'file',
    disk,
    ...settings,
  ];
}

/** See the file's head. */
export class DiskServer {
  /** The disk that it serves. */
  readonly disk: string;
  /** Where it listens if its words say so. */
  readonly socket: string;
  readonly #pidfile: string;
  readonly #words: ServerWords;
  readonly #log: string;
  readonly #died: ((why: string) => void) | undefined;
  #child: ChildProcess | undefined;
  #revival: Promise<void> = Promise.resolve();

  /** @param died hears of one that ended by itself, and was started again; nothing: it stays away @param name of its files in `folder` */
  constructor(folder: string, name: string, bytes: number, words: ServerWords, died?: (why: string) => void) {
    this.#died = died;
    this.#log = join(folder, `${name}.server.log`);
    this.disk = join(folder, `${name}.raw`);
    this.socket = join(folder, `${name}.server.socket`);
    this.#pidfile = join(folder, `${name}.server`);
    this.#words = words;
    writeFileSync(this.disk, '');
    truncateSync(this.disk, bytes);
  }

  /** Resolves when it listens. Somebody else may have its port for a moment: it is tried again then. */
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
    const log = this.#died === undefined ? undefined : openSync(this.#log, 'a');
    const child = start(this.#words({ disk, socket, pidfile: this.#pidfile }), {}, log);
    if (log !== undefined) closeSync(log);
    this.#child = child;
    await whenWritten(this.#pidfile, child);
    child.once('exit', (status, signal) => {
      // All that we end, we end like this.
      if (this.#died === undefined || (signal === 'SIGKILL' && child.killed)) return;
      const words = readFileSync(this.#log, 'utf8').slice(-LAST_WORDS).trim();
      this.#died(`the server died by itself (${signal ?? `status ${status}`}: ${words})`);
      this.#revival = this.start().catch((error: Error) => this.#died?.(error.message));
    });
  }

  /** Kills it, and with it what it has not flushed. */
  async kill(): Promise<void> {
    await this.#revival;
    await this.#kill();
  }

  async #kill(): Promise<void> {
    if (this.#child === undefined) return;
    this.#child.kill('SIGKILL');
    await whenEnded(this.#child, 5000);
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }
}
