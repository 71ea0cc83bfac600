// Starts the built program on a fresh mountpoint and waits for its messages.
//
// Used by this folder's tests. Registers the clean-up before it acts: at the end of the test the mount is
// detached, the processes are killed, and the folder is removed.

import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, stat, watch } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { NBDFUSE } from '../../support/run/mount.js';

const runFile = promisify(execFile);

/** Runs a program to its end and returns what it printed; longer than 20 s is a failure. */
export async function run(program: string, ...args: string[]): Promise<string> {
  return (await runFile(program, args, { timeout: 20_000, maxBuffer: 64 * 1024 * 1024 })).stdout;
}

/** A fresh folder that goes with the test. */
export async function createFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nbdfuse-test-'));
  onTestFinished(async () => {
    for (const line of (await readFile('/proc/self/mounts', 'utf8')).split('\n')) {
      const [, path = ''] = line.split(' ');
      if (path.startsWith(folder)) await run('umount', '-l', path);
    }
    await rm(folder, { recursive: true, force: true });
  });
  await mkdir(join(folder, 'dir'));
  return folder;
}

/** Resolves as soon as `name` in `folder` is a socket or has content; rejects when `child` ends before. */
export async function untilThere(folder: string, name: string, child: ChildProcess): Promise<void> {
  const over = new AbortController();
  const ended = (): void => over.abort(new Error(`the process ended before there was a ${name}`));
  child.once('exit', ended);
  if (child.exitCode !== null) ended();
  const isThere = async (): Promise<boolean> => {
    const found = await stat(join(folder, name)).catch(() => undefined);
    return found !== undefined && (found.isSocket() || found.size > 0);
  };
  const changes = watch(folder, { signal: over.signal })[Symbol.asyncIterator]();
  let change = changes.next();
  while (!(await isThere())) {
    await change;
    change = changes.next();
  }
  change.catch(() => undefined);
  over.abort();
}

/** Resolves when `child` waits in the kernel for an answer of the file system. */
export async function untilWaiting(child: ChildProcess): Promise<void> {
  const waitsIn = (): Promise<string> => readFile(`/proc/${child.pid}/wchan`, 'utf8');
  while (!/fuse|request_wait/.test(await waitsIn())) await new Promise((next) => setImmediate(next));
}

/** A process that was started. */
export class Running {
  readonly child: ChildProcess;
  /** Resolves with the exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
  #errors = '';

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const { child } = this;
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#errors += chunk.toString();
      child.emit('said');
    });
    this.ended = once(child, 'close').then(([status, signal]) => status ?? signal);
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await this.ended;
    });
  }

  /** Everything on standard error so far. */
  get errors(): string {
    return this.#errors;
  }

  /** Resolves as soon as standard error holds `pattern`. */
  async says(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.#errors)) await once(this.child, 'said');
  }
}

/** A mount by the program. */
export interface Mounted extends Running {
  readonly file: string;
  readonly pidfile: string;
}

/** Starts the program on `folder`/dir and returns when it is ready. */
export async function mount(
  folder: string,
  words: readonly string[],
  options: readonly string[] = [],
): Promise<Mounted> {
  const pidfile = join(folder, 'pid');
  const running = new Running(NBDFUSE, ['-P', pidfile, ...options, join(folder, 'dir'), ...words]);
  await untilThere(folder, 'pid', running.child);
  return Object.assign(running, { file: join(folder, 'dir', 'nbd'), pidfile });
}

/** The content of a file, or undefined where there is none. */
export async function contentOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(() => undefined);
}
