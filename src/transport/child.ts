// A server (or ssh) as our child: starting it, its last words, and its end.
//
// Called by server.ts and ssh.ts. A watcher beside the child, in the child's own process group, waits
// for the end of a pipe from us: when this process is gone, whatever the reason, it ends the group and
// removes the socket folder. The group's number cannot be used again while the watcher is in it. The
// child has a session of its own, so that Ctrl-C at a terminal reaches us alone and we stop in order.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { printable } from '../nbd/text.js';
import { reasonOf, TransportError } from './errors.js';
import { findProgram } from './program.js';

/** Lines of standard error that are kept for messages. */
const KEPT_LINES = 10;
/** Bytes of one line that are kept. */
const KEPT_LINE_BYTES = 1024;
/** Milliseconds to wait for the rest of standard error once the child has exited. */
const LAST_WORDS_TIME = 200;
/** Milliseconds between SIGTERM and SIGKILL. */
const TERM_TIME = 5000;

/**
 * $1 is the socket folder ('' for none), then the command. LISTEN_PID must be the server's own
 * number, which exec keeps. The watcher is orphaned at once, so that the server gets no strange child.
 */
const LAUNCHER = `folder=$1; shift
( ( read -r line; trap '' TERM; kill -TERM 0
  if [ -n "$folder" ]; then rm -f -- "$folder/socket"; rmdir -- "$folder"; fi
  sleep 5; kill -KILL 0 ) <&4 >/dev/null 2>&1 3<&- 4<&- & )
unset LISTEN_PID LISTEN_FDS LISTEN_FDNAMES
if [ -n "$folder" ]; then LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" >&2 4<&-; fi
exec "$@" 3<&- 4<&-`;

/** How a child ended. */
export interface ServerExit {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last lines that it wrote to standard error, not escaped. */
  readonly lastLines: readonly string[];
}

/** What a child is given. */
export interface LaunchOptions {
  readonly argv: readonly string[];
  /** Descriptor for standard input and output; the launcher's caller still closes its own copy. */
  readonly socket?: number;
  /** A listening socket, `socket` in `folder`. */
  readonly listener?: { readonly fd: number; readonly folder: string };
  /** Receives standard error as it comes. */
  readonly onStderr: (chunk: Buffer) => void;
}

/** Says how a child ended and what it said last, for a message: `exited with status 1: no such file`. */
export function describeExit(exit: ServerExit): string {
  const how = exit.signal === null ? `exited with status ${exit.status}` : `was ended by ${exit.signal}`;
  const words = printable(exit.lastLines.slice(-3).join(' / ')).trim();
  return words === '' ? how : `${how}: ${words}`;
}

/** A running child. */
export class Child {
  readonly argv: readonly string[];
  /** Resolves when the child has exited and has been reaped; never rejects. */
  readonly exited: Promise<ServerExit>;
  readonly #process: ChildProcess;
  #hasExited = false;

  private constructor(process: ChildProcess, options: LaunchOptions) {
    this.#process = process;
    this.argv = options.argv;
    this.exited = this.#follow(process, options.onStderr);
  }

  /** Starts a program. @throws TransportError when there is no such program */
  static async launch(options: LaunchOptions): Promise<Child> {
    const program = await findProgram(options.argv[0] ?? '');
    const args = ['-c', LAUNCHER, 'sh', options.listener?.folder ?? '', program, ...options.argv.slice(1)];
    const channel = options.socket ?? 'ignore';
    const child = spawn('/bin/sh', args, {
      detached: true,
      stdio: [channel, channel, 'pipe', options.listener?.fd ?? 'ignore', 'pipe'],
    });
    const started = new Child(child, options);
    try {
      await once(child, 'spawn');
    } catch (error) {
      const name = printable(options.argv[0] ?? '');
      throw new TransportError(`cannot start ${name}: ${reasonOf(error)}`, { cause: error });
    }
    return started;
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  async #follow(child: ChildProcess, onStderr: (chunk: Buffer) => void): Promise<ServerExit> {
    const lines: string[] = [];
    let line = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      onStderr(chunk);
      const pieces = (line + chunk.toString('latin1')).split('\n');
      line = (pieces.pop() ?? '').slice(0, KEPT_LINE_BYTES);
      for (const piece of pieces) if (piece.trim() !== '') lines.push(piece.slice(0, KEPT_LINE_BYTES));
      lines.splice(0, lines.length - KEPT_LINES);
    });
    const said = new Promise((resolve) => child.stderr?.once('close', resolve));
    // A broken pipe to the watcher or a failed start is told by 'exit' or by launch().
    child.stdio[4]?.on('error', () => undefined);
    const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
      child.once('exit', (code, by) => resolve([code, by]));
      child.once('error', () => resolve([null, null]));
    });
    this.#hasExited = true;
    await Promise.race([said, delay(LAST_WORDS_TIME)]);
    this.#signalGroup('SIGTERM');
    child.stdio[4]?.destroy();
    child.stderr?.destroy();
    if (line.trim() !== '') lines.push(line);
    return { status, signal, lastLines: lines.map((text) => Buffer.from(text, 'latin1').toString('utf8')) };
  }

  #signalGroup(signal: NodeJS.Signals): void {
    const { pid } = this.#process;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // ESRCH: nobody is left in the group.
    }
  }

  /**
   * Waits `patience` milliseconds for the child to exit by itself, then sends SIGTERM, then SIGKILL,
   * and resolves when it is reaped.
   */
  async stop(patience: number): Promise<ServerExit> {
    if (!(await this.#exitsWithin(patience))) {
      this.#signalGroup('SIGTERM');
      if (!(await this.#exitsWithin(TERM_TIME))) this.#signalGroup('SIGKILL');
    }
    return this.exited;
  }

  async #exitsWithin(milliseconds: number): Promise<boolean> {
    if (milliseconds <= 0 || this.#hasExited) return this.#hasExited;
    const stop = new AbortController();
    const timer = delay(milliseconds, false, { signal: stop.signal }).catch(() => false);
    const result = await Promise.race([this.exited.then(() => true), timer]);
    stop.abort();
    return result;
  }
}
