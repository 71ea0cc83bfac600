// nbdkit with a cache of its own, which it loses when it is killed: writes reach its disk at a FLUSH alone.
//
// Used by lane.ts. It comes back on the same socket or port.

import type { ChildProcess } from 'node:child_process';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { start, whenEnded, whenWritten } from '../bench/processes.js';

/** nbdkit's words for where it listens, and how. */
export type Listening = readonly string[];

/** See the file's head. */
export class VolatileServer {
  /** What it serves. */
  readonly disk: string;
  readonly #pidfile: string;
  readonly #listening: Listening;
  #child: ChildProcess | undefined;

  constructor(folder: string, name: string, bytes: number, listening: Listening) {
    this.disk = join(folder, `${name}.raw`);
    this.#pidfile = join(folder, `${name}.server`);
    this.#listening = listening;
    writeFileSync(this.disk, '');
    truncateSync(this.disk, bytes);
  }

  async start(): Promise<void> {
    rmSync(this.#pidfile, { force: true });
    const socket = this.#listening[this.#listening.indexOf('-U') + 1];
    if (this.#listening.includes('-U')) rmSync(socket, { force: true });
    const words = [
      'nbdkit',
      '-f',
      '-P',
      this.#pidfile,
      ...this.#listening,
      '--filter=cache',
      'file',
      this.disk,
    ];
    this.#child = start(words);
    await whenWritten(this.#pidfile, this.#child);
  }

  /** Kills it, and with it what it has not flushed. */
  async kill(): Promise<void> {
    if (this.#child === undefined) return;
    this.#child.kill('SIGKILL');
    await whenEnded(this.#child, 5000);
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }
}
