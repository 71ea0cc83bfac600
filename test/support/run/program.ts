// A process that runs beside a test or a measurement: nbdfuse, a server, a program with an open file.
//
// Made by mount.ts, servers.ts, tests and tools. It belongs to a scope, whose end kills and reaps it.

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { requireProgram } from './requires.js';
import type { Scope } from './scope.js';

/** Bytes of the end of standard error that a message shows. */
const LAST_WORDS = 500;

/** Milliseconds to wait for words: less than the limit of a test, so that its failure shows the words that came. */
const SAY_TIME = 50_000;

/** Options of a process. */
export interface ProgramOptions {
  /** Default: no standard input; output and error are pipes. */
  readonly stdio?: StdioOptions;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** A running process with its output. */
export class Program {
  readonly child: ChildProcess;
  /** Resolves with the exit status, the signal's name or `not started`, when all output has been read. */
  readonly ended: Promise<number | string>;
  readonly #name: string;
  readonly #readyLimit: number | undefined;
  #stdout = '';
  #stderr = '';
  #isOver = false;

  constructor(scope: Scope, command: string, args: readonly string[], options: ProgramOptions = {}) {
    this.#name = basename(command);
    this.#readyLimit = scope.readyLimit;
    const { stdio = ['ignore', 'pipe', 'pipe'], env, cwd } = options;
    this.child = spawn(command.includes('/') ? command : requireProgram(command), args, {
      stdio,
      env: { ...scope.environment, ...env },
      cwd,
    });
    const remove = scope.add(() => this.kill('SIGKILL'));
    scope.hear(() => this.#lastWords());
    this.child.stdout?.on('data', (chunk: Buffer) => {
      this.#stdout += chunk.toString();
      this.child.emit('said');
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString();
      this.child.emit('said');
    });
    this.ended = this.#whenClosed().finally(() => {
      this.#isOver = true;
      // A long run of a tool starts thousands of programs in one scope.
      remove();
    });
  }

  async #whenClosed(): Promise<number | string> {
    try {
      const [status, signal] = await once(this.child, 'close');
      return status ?? signal;
    } catch (error) {
      if (this.child.pid !== undefined || !(error instanceof Error)) throw error;
      this.#stderr += error.message;
      return 'not started';
    }
  }

  #lastWords(): string {
    if (this.#stderr === '') return '';
    const { exitCode, signalCode } = this.child;
    const end = exitCode ?? signalCode ?? 'running';
    return `${this.#name} (${end}): ${this.#stderr.slice(-LAST_WORDS)}`;
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

  get isRunning(): boolean {
    const { pid, exitCode, signalCode } = this.child;
    return pid !== undefined && exitCode === null && signalCode === null;
  }

  /** Sends a signal and resolves when the process has ended; at once if it already had. */
  async kill(signal: NodeJS.Signals): Promise<number | string> {
    if (!this.#isOver) this.child.kill(signal);
    return this.ended;
  }

  /** Resolves when the process has ended, which is killed after `limit` milliseconds. */
  async endsWithin(limit: number): Promise<number | string> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), limit);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves when output or error holds the pattern. @throws Error if the process ends before, or `time` ms are over */
  async says(pattern: RegExp, time = SAY_TIME): Promise<void> {
    const isSaid = (): boolean => pattern.test(this.#stderr) || pattern.test(this.#stdout);
    const limit = new TimeLimit(time);
    try {
      while (!isSaid()) {
        if (this.#isOver) throw new Error(`${this.#name} ended without saying ${pattern}: ${this.#stderr}`);
        if (limit.isOver) throw new Error(`${this.#name} does not say ${pattern}: ${this.#stderr}`);
        await Promise.race([once(this.child, 'said'), this.ended, limit.over]);
      }
    } finally {
      limit.cancel();
    }
  }

  /**
   * Resolves when a file is not empty.
   * @throws Error with the output of the process, if it ends before, or the scope's limit for being ready passes
   */
  async fills(file: string): Promise<void> {
    const isFull = (): boolean => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0;
    const watcher = watch(dirname(file));
    const limit = new TimeLimit(this.#readyLimit);
    try {
      while (!isFull()) {
        if (this.#isOver) throw new Error(`${this.#name} ended:\n${this.#stderr}`);
        if (limit.isOver) throw new Error(`${this.child.spawnargs.join(' ')} did not become ready`);
        await Promise.race([once(watcher, 'change'), this.ended, limit.over]);
      }
    } finally {
      limit.cancel();
      watcher.close();
    }
  }
}

/** Some milliseconds from now on; without a number, for ever. */
class TimeLimit {
  isOver = false;
  readonly over: Promise<void>;
  #timer: NodeJS.Timeout | undefined;

  constructor(milliseconds: number | undefined) {
    this.over = new Promise((resolve) => {
      if (milliseconds === undefined) return;
      this.#timer = setTimeout(() => {
        this.isOver = true;
        resolve();
      }, milliseconds);
    });
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}

/**
 * Runs a program in / to its end and returns what it printed. For programs on a mount whose server may hang:
 * a process that waits for a hung server cannot be killed, so after the limit nothing waits for it.
 * @throws Error with its last output when it fails, or takes longer than so many seconds
 */
export async function runWithin(
  scope: Scope,
  seconds: number,
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  const [command, ...args] = argv;
  const program = new Program(scope, command, args, { env, cwd: '/' });
  const limit = new TimeLimit(seconds * 1000);
  const status = await Promise.race([program.ended, limit.over]);
  limit.cancel();
  if (status === undefined) {
    program.child.kill('SIGKILL');
    throw new Error(`${argv.join(' ')}: no end after ${seconds} s`);
  }
  if (status === 0) return program.stdout;
  const how = typeof status === 'number' ? `status ${status}` : status;
  throw new Error(`${argv.join(' ')}: ${how} ${program.stderr.slice(-LAST_WORDS).trim()}`);
}
