// A process that runs beside the test: nbdfuse, a server, something that holds a file open.
//
// Made by mount.ts, servers.ts and tests. It belongs to a scope, whose end kills and reaps it.

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Scope } from './cleanup.js';
import { requireProgram } from './requires.js';

/** What can be said of how a process is to run. */
export interface ProgramOptions {
  /** Standard input is nothing, output and error are pipes, unless told otherwise. */
  readonly stdio?: StdioOptions;
  readonly env?: NodeJS.ProcessEnv;
}

/** A running process with what it said. */
export class Program {
  readonly child: ChildProcess;
  /** Resolves with the exit status or the signal's name, when all output has been read. */
  readonly ended: Promise<number | string>;
  readonly #name: string;
  #stdout = '';
  #stderr = '';
  #isOver = false;

  constructor(scope: Scope, command: string, args: readonly string[], options: ProgramOptions = {}) {
    this.#name = basename(command);
    const { stdio = ['ignore', 'pipe', 'pipe'], env } = options;
    this.child = spawn(command.includes('/') ? command : requireProgram(command), args, {
      stdio,
      env: { ...scope.environment, ...env },
    });
    scope.add(() => this.kill('SIGKILL'));
    this.child.stdout?.on('data', (chunk: Buffer) => {
      this.#stdout += chunk.toString();
      this.child.emit('said');
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString();
      this.child.emit('said');
    });
    this.ended = once(this.child, 'close').then(([status, signal]) => {
      this.#isOver = true;
      return status ?? signal;
    });
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`${this.#name} did not start`);
    return this.child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Sends a signal and resolves when the process has ended; at once if it already had. */
  async kill(signal: NodeJS.Signals): Promise<number | string> {
    if (!this.#isOver) this.child.kill(signal);
    return this.ended;
  }

  /** Resolves when output or error holds the pattern. @throws Error if the process ends before */
  async says(pattern: RegExp): Promise<void> {
    const isSaid = (): boolean => pattern.test(this.#stderr) || pattern.test(this.#stdout);
    while (!isSaid()) {
      if (this.#isOver) throw new Error(`${this.#name} ended without saying ${pattern}: ${this.#stderr}`);
      await Promise.race([once(this.child, 'said'), this.ended]);
    }
  }

  /** Resolves when a file is not empty. @throws Error with what the process said, if it ends before */
  async fills(file: string): Promise<void> {
    const isFull = (): boolean => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0;
    const watcher = watch(dirname(file));
    try {
      while (!isFull()) {
        if (this.#isOver) throw new Error(`${this.#name} ended:\n${this.#stderr}`);
        await Promise.race([once(watcher, 'change'), this.ended]);
      }
    } finally {
      watcher.close();
    }
  }
}
