// The command that the chunk server runs above it: --run, as `nbdkit -U - --run`.
//
// The chunk server listens on a socket in a new directory of mode 0700, and the command finds the path of the socket in
// $unixsocket. Descriptor 3 stays the command's: its program takes that socket by socket activation. Each ends with the
// other. A watcher process waits for the end of a pipe from us: when this process is gone, for whatever reason, it ends
// the command and removes the directory. The command is in our process group, so that the end of the group ends it,
// too.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { LONGEST_UNIX_PATH } from '../../constants/unix-path.js';
import { AF_UNIX, closeDescriptor, openSocket, SOCK_STREAM } from '../../linux/socket.js';
import { socketDirectoryToMake } from '../../linux/socket-directory.js';
import { listenUnix } from '../../linux/unix-socket.js';

/** Milliseconds between SIGTERM and SIGKILL for the command. */
const TERM_TIME = 5000;

/**
 * $1 is the directory, $2 the command. We make the directory while this script waits for its first line, so that the
 * directory never exists without a process to remove it. A second line says that the command has ended: its process
 * number, $$, may be another's then.
 */
const LAUNCHER = `directory=$1
clean() { rm -f -- "$directory/socket"; rmdir -- "$directory"; }
read -r _ <&4 || { clean 2>/dev/null; exit 1; }
( ( trap '' TERM INT HUP; read -r _ || kill -TERM $$; clean ) <&4 >/dev/null 2>&1 3<&- 4<&- & )
exec /bin/sh -c "$2" 4<&-`;

/** Makes the directory with a listening socket. @returns its descriptor @throws SystemError; NodeJS.ErrnoException */
function listenIn(directory: string): number {
  mkdirSync(directory, { mode: 0o700 });
  const fd = openSocket(AF_UNIX, SOCK_STREAM);
  try {
    listenUnix(fd, join(directory, 'socket'));
    return fd;
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** The exit status as a shell gives it: 128 and more for a signal. */
function statusOf(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

/** A command that runs. */
export class RunningCommand {
  /** Descriptor of the listening socket for the command, which belongs to the caller. */
  readonly listener: number;
  /** Resolves with the exit status, 128 and more for a signal, when the command has ended and its directory is removed. */
  readonly ended: Promise<number>;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, directory: string, listener: number) {
    this.#process = process;
    this.listener = listener;
    this.ended = this.#follow(directory);
  }

  /**
   * Runs a command for /bin/sh.
   * @param inherited descriptor that the command gets as descriptor 3; it is closed here: when the command is gone,
   *   connecting to it fails instead of waiting
   * @throws SystemError or NodeJS.ErrnoException if it cannot be started or there is no place for the socket
   */
  static async start(command: string, inherited: number): Promise<RunningCommand> {
    const directory = socketDirectoryToMake('nbdfuse-chunks', LONGEST_UNIX_PATH);
    const child = spawn('/bin/sh', ['-c', LAUNCHER, 'sh', directory, command], {
      env: { ...process.env, unixsocket: join(directory, 'socket') },
      stdio: ['inherit', 'inherit', 'inherit', inherited, 'pipe'],
    });
    // 'exit' reports its end.
    child.stdio[4]?.on('error', () => undefined);
    await once(child, 'spawn');
    closeDescriptor(inherited);
    try {
      const listener = listenIn(directory);
      const running = new RunningCommand(child, directory, listener);
      running.#tell();
      return running;
    } catch (error) {
      child.stdio[4]?.destroy();
      throw error;
    }
  }

  /** Sends the launcher or its watcher a line. */
  #tell(): void {
    const pipe = this.#process.stdio[4];
    if (pipe instanceof Writable) pipe.write('\n');
  }

  async #follow(directory: string): Promise<number> {
    const [code, signal]: [number | null, NodeJS.Signals | null] = await new Promise((done) => {
      this.#process.once('exit', (...how) => done(how));
    });
    this.#tell();
    // The launcher may have ended before it had a watcher. The sandbox does not let us list a directory.
    rmSync(join(directory, 'socket'), { force: true });
    try {
      rmdirSync(directory);
    } catch {
      // The watcher has removed it.
    }
    return statusOf(code, signal);
  }

  /** Ends the command by SIGTERM, after five seconds by SIGKILL, and resolves when it has ended. */
  async stop(): Promise<number> {
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), TERM_TIME);
    const status = await this.ended;
    clearTimeout(timer);
    return status;
  }
}
