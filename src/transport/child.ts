// Runs a server (or ssh) as our child: its start, its last output, and its end.
//
// Used by command.ts, which ssh.ts uses too, and socket-activation.ts. A watcher process in the child's process group
// waits for the end of a pipe from us: when this process is gone, for whatever reason, the watcher ends the group and
// removes the socket directory. The group's number cannot be reused while the watcher is in it. The child has a
// session of its own, so that Ctrl-C at a terminal reaches only us, and we stop in order.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { keptPath } from '../linux/kept-path.js';
import { printable } from '../nbd/text.js';
import { reasonOf, TransportError } from './errors.js';
import { groupsEnded } from './process-groups.js';
import { findProgram } from './program.js';

/** Milliseconds that a child gets to exit alone after its connection has ended. */
export const EXIT_TIME = 1000;
/** Lines of standard error that are kept for messages. */
const KEPT_LINES = 10;
/** Bytes of one line that are kept. */
const KEPT_LINE_BYTES = 1024;
/** Milliseconds to wait for the rest of standard error once the child has exited. */
const LAST_WORDS_TIME = 200;
/** Milliseconds between SIGTERM and SIGKILL. */
const TERM_TIME = 5000;
/** Milliseconds to wait for the watcher's end; it may have stubborn processes to wait for. */
const WATCHER_TIME = 1000;
/** Milliseconds between the watcher's checks of its group. */
const TERM_LOOK = 100;

/**
 * $1 is the socket directory ('' for none), then the command. The chunk server has a second socket there. We make the directory while the launcher runs, and then
 * send it a line, so that the directory never exists without a process to remove it. LISTEN_PID must be the server's
 * own process number, which exec keeps. The watcher is orphaned at once, so that the server has no unknown child;
 * only SIGKILL ends it before it has cleaned up. It stays until all others of the group, whose number is $$, have
 * ended, or kills them.
 */
const LAUNCHER = `directory=$1; shift
clean() {
  if [ -z "$directory" ]; then return; fi
  rm -f -- "$directory/socket" "$directory/socket.control"
  rmdir -- "$directory"
}
if [ -n "$directory" ]; then read -r _ <&4 || { clean 2>/dev/null; exit 1; }; fi
others() {
  for file in /proc/[0-9]*/stat; do
    if read -r line <$file; then
      set -- \${line%% *} \${line##*) }
      if [ $4 = $$ ] && [ $1 != $self ] && [ $2 != Z ]; then return 0; fi
    fi
  done
  return 1
}
( ( trap '' TERM; read -r self _ </proc/self/stat
  read -r _; kill -TERM 0; clean; tries=${TERM_TIME / TERM_LOOK}
  while [ $tries -gt 0 ] && others; do tries=$((tries - 1)); sleep ${TERM_LOOK / 1000}; done
  kill -KILL 0 ) <&4 >/dev/null 2>&1 3<&- 4<&- & )
unset LISTEN_PID LISTEN_FDS LISTEN_FDNAMES
if [ -n "$directory" ]; then LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" >&2 4<&-; fi
exec "$@" 3<&- 4<&-`;

/** How a child ended. */
export interface ServerExit {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last lines that it wrote to standard error, not escaped. */
  readonly lastLines: readonly string[];
}

/** How to launch a child. */
export interface LaunchOptions {
  readonly argv: readonly string[];
  /** Descriptor for standard input and output; the launcher's caller still closes its own copy. */
  readonly socket?: number;
  /** A socket, which `listen` binds to the path `socket` in `directory`; `listen` also makes the directory. */
  readonly listener?: { readonly fd: number; readonly directory: string; listen(): void };
  /** Receives standard error as it comes. */
  readonly onStderr: (chunk: Buffer) => void;
  /** Default: the directory in which we were started. */
  readonly currentDirectory?: string | undefined;
}

/** How a child ended, with its last output, for a message: `exited with status 1: no such file`. */
export function describeExit(exit: ServerExit): string {
  const how = exit.signal === null ? `exited with status ${exit.status}` : `was killed by ${exit.signal}`;
  const words = printable(exit.lastLines.slice(-3).join(' / ')).trim();
  return words === '' ? how : `${how}: ${words}`;
}

/** Listens, and then lets the launcher continue. @throws the errors of `listen` */
function letListen(launcher: ChildProcess, listener: { listen(): void }): void {
  const pipe = launcher.stdio[4];
  try {
    listener.listen();
    if (pipe instanceof Duplex) pipe.write('\n');
  } catch (error) {
    pipe?.destroy();
    throw error;
  }
}

/** Whether `event` settles within so many milliseconds; resolves as soon as that is known. */
async function settlesWithin(event: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const stop = new AbortController();
  const timer = delay(milliseconds, false, { signal: stop.signal }).catch(() => false);
  const result = await Promise.race([event.then(() => true), timer]);
  stop.abort();
  return result;
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

  /** Starts a program. @throws TransportError when there is no such program; the errors of `listen` */
  static async launch(options: LaunchOptions): Promise<Child> {
    const program = await findProgram(options.argv[0] ?? '');
    const args = ['-c', LAUNCHER, 'sh', options.listener?.directory ?? '', program, ...options.argv.slice(1)];
    const channel = options.socket ?? 'ignore';
    const child = spawn('/bin/sh', args, {
      detached: true,
      // Its words may be relative paths.
      cwd: options.currentDirectory ?? keptPath('.'),
      // perl in the sandbox must not warn about a locale that is not installed.
      env: { ...process.env, PERL_BADLANG: '0' },
      stdio: [channel, channel, 'pipe', options.listener?.fd ?? 'ignore', 'pipe'],
    });
    const started = new Child(child, options);
    if (options.listener !== undefined) letListen(child, options.listener);
    try {
      await once(child, 'spawn');
    } catch (error) {
      const name = printable(options.argv[0] ?? '');
      throw new TransportError(`cannot start ${name}: ${reasonOf(error)}`, { cause: error });
    }
    return started;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  /** Resolves when the child and all processes of its group have ended. */
  async groupEnded(): Promise<void> {
    await this.exited;
    if (this.pid !== undefined) await groupsEnded([this.pid]);
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
    // 'exit' or launch() reports a broken pipe to the watcher, or a failed start.
    child.stdio[4]?.on('error', () => undefined);
    const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
      child.once('exit', (code, by) => resolve([code, by]));
      child.once('error', () => resolve([null, null]));
    });
    this.#hasExited = true;
    await settlesWithin(said, LAST_WORDS_TIME);
    this.#signalGroup('SIGTERM');
    await this.#dismissWatcher();
    child.stderr?.destroy();
    if (line.trim() !== '') lines.push(line);
    return { status, signal, lastLines: lines.map((text) => Buffer.from(text, 'latin1').toString('utf8')) };
  }

  /** Lets the watcher clean up, and waits for its end: it keeps the other end of its channel open until then. */
  async #dismissWatcher(): Promise<void> {
    const channel = this.#process.stdio[4];
    if (!(channel instanceof Duplex)) return;
    const gone = new Promise((resolve) => channel.once('close', resolve));
    channel.end();
    channel.resume();
    await settlesWithin(gone, WATCHER_TIME);
    channel.destroy();
  }

  #signalGroup(signal: NodeJS.Signals): void {
    const { pid } = this.#process;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // ESRCH: no process is left in the group.
    }
  }

  /**
   * Waits `patience` milliseconds for the child to exit without a signal, then sends SIGTERM, then SIGKILL,
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
    return settlesWithin(this.exited, milliseconds);
  }
}
