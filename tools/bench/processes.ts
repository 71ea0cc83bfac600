// Starting what a benchmark measures, and ending all of it, whatever happens: run.ts calls endAll()
// when it is done, when it fails and when a signal stops it. Undoing goes backwards, so a mount is
// gone before its server and a server before its folder.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const undo: (() => void)[] = [];

/** Registers what is to be done at the end; the last one first. */
export function atEnd(action: () => void): void {
  undo.push(action);
}

/** Does everything that was registered; nothing that fails there stops the rest. */
export function endAll(): void {
  for (let action = undo.pop(); action !== undefined; action = undo.pop()) {
    try {
      action();
    } catch (error) {
      console.error(`clean-up: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Lets signals end everything, and the program. @param first what is done before that */
export function endAtSignals(first = (): void => undefined): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Stays in place while it works: timeout(1) and a terminal may send the signal twice.
    process.on(signal, () => {
      first();
      endAll();
      process.exit(1);
    });
  }
}

/** In memory where that can be had: no disk is to be measured. */
const ROOT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A fresh folder that is removed at the end. Other users may look into it. */
export function folder(): string {
  const path = mkdtempSync(join(ROOT, 'nbdfuse-bench-'));
  chmodSync(path, 0o777);
  atEnd(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Lets a normal user open /dev/fuse until the end. */
export function openFuseToAll(): void {
  const { mode } = statSync('/dev/fuse');
  if ((mode & 0o666) === 0o666) return;
  chmodSync('/dev/fuse', 0o666);
  atEnd(() => chmodSync('/dev/fuse', mode & 0o7777));
}

/** The words that make a command run as a normal user. */
export const AS_NOBODY: readonly string[] = [
  'setpriv',
  '--reuid=nobody',
  '--regid=nogroup',
  '--clear-groups',
];

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });

const isRunning = (child: ChildProcess): boolean =>
  child.pid !== undefined && child.exitCode === null && child.signalCode === null;

/** Waits until `path` is a file that is not empty. @throws Error when `child` ends or 20 s pass before */
export async function whenWritten(path: string, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (isRunning(child) && performance.now() < deadline) {
    if (existsSync(path) && statSync(path).size > 0) return;
    await pause(2);
  }
  throw new Error(`${child.spawnargs.join(' ')} did not become ready`);
}

/** Waits until `child` has ended; after `milliseconds` it is killed. */
export async function whenEnded(child: ChildProcess, milliseconds: number): Promise<void> {
  if (!isRunning(child)) return;
  const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
  await new Promise((resolve) => {
    child.once('exit', resolve);
  });
  clearTimeout(timer);
}

/** Starts a program that is ended at the end. @param onError what becomes of its errors; a descriptor too */
export function start(
  argv: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  onError: 'inherit' | 'ignore' | number = 'ignore',
): ChildProcess {
  const child = spawn(argv[0], argv.slice(1), {
    stdio: ['ignore', 'ignore', onError],
    env: { ...process.env, ...environment },
  });
  child.on('error', (error) => console.error(error.message));
  atEnd(() => {
    if (isRunning(child)) child.kill('SIGKILL');
  });
  return child;
}

/**
 * Runs a program to its end and gives what it printed. @throws Error when it fails or takes too long, and
 * then without waiting for its end: who reads from a file whose server hangs cannot even be killed.
 */
export function run(
  argv: readonly string[],
  options: { environment?: Readonly<Record<string, string>>; seconds: number },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.environment },
      cwd: '/',
    });
    const kill = (): void => {
      if (isRunning(child)) child.kill('SIGKILL');
    };
    atEnd(kill);
    const timer = setTimeout(() => {
      kill();
      reject(new Error(`${argv.join(' ')}: no end after ${options.seconds} s`));
    }, options.seconds * 1000);
    let output = '';
    let complaint = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString('utf8')).slice(-500);
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      if (status === 0) resolve(output);
      else reject(new Error(`${argv.join(' ')}: ${signal ?? `status ${status}`} ${complaint.trim()}`));
    });
  });
}

const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** CPU seconds that a process has used, its threads included. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function kibibytes(path: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(path, 'utf8'));
  return found === null ? 0 : Number(found[1]) / 1024;
}

/** The most memory that a process has had, in MiB: what /usr/bin/time calls maximum resident. */
export const peakMiB = (pid: number): number => kibibytes(`/proc/${pid}/status`, 'VmHWM');

/** The memory of a process, in MiB: pages that n processes share count a n-th. */
export const proportionalMiB = (pid: number): number => kibibytes(`/proc/${pid}/smaps_rollup`, 'Pss');
