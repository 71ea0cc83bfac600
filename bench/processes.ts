// Starting what a benchmark measures, and ending all of it, whatever happens.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
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

/** A fresh folder that is removed at the end. Other users may look into it. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'nbdfuse-bench-'));
  execFileSync('chmod', ['0777', path]);
  atEnd(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });

/** Waits until `path` is a file that is not empty. */
export async function whenWritten(path: string, child: ChildProcess): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 2) {
    if (existsSync(path) && statSync(path).size > 0) return;
    if (child.exitCode !== null) break;
    await pause(2);
  }
  throw new Error(`${child.spawnargs.join(' ')} did not become ready`);
}

/** Starts a program that is ended at the end. */
export function start(
  argv: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  onOutput: 'inherit' | 'ignore' = 'ignore',
): ChildProcess {
  const child = spawn(argv[0], argv.slice(1), {
    stdio: ['ignore', onOutput, onOutput],
    env: { ...process.env, ...environment },
  });
  child.on('error', (error) => console.error(error.message));
  atEnd(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  return child;
}

/** CPU seconds that a process has used, its threads included. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The most memory that a process has had, in MiB. */
export function peakMiB(pid: number): number {
  const found = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return found === null ? 0 : Number(found[1]) / 1024;
}
