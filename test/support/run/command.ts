// Runs a program to its end.
//
// For the programs that look at a mount from outside. Never waits synchronously: a test that blocks its event loop
// cannot time out. A program that belongs to a scope is a Program (see program.ts, and runWithin there).

import { execFile } from 'node:child_process';
import { requireProgram } from './requires.js';

/** The result of a program with any status. */
export interface Outcome {
  /** The exit status; -1 when a signal ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const LIMITS = { timeout: 45_000, killSignal: 'SIGKILL', maxBuffer: 256 * 1024 * 1024 } as const;

/** Runs a program and returns its result. */
export function tryProgram(program: string, ...args: readonly string[]): Promise<Outcome> {
  const path = requireProgram(program);
  return new Promise((resolve) => {
    const child = execFile(path, [...args], LIMITS, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ status, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** Runs a program that must succeed and returns its output. @throws Error with its output */
export async function runProgram(program: string, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await tryProgram(program, ...args);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: status ${status}: ${stderr}${stdout}`);
  return stdout;
}

/**
 * Makes an encrypted image with qemu-img. QEMU measures how fast this machine derives keys, and gives up when the
 * measurement tells it nothing, as under load: it is tried again.
 * @throws Error with its output
 */
export async function makeEncrypted(...words: readonly string[]): Promise<void> {
  for (let tries = 1; ; tries++) {
    const { status, stderr } = await tryProgram('qemu-img', ...words);
    if (status === 0) return;
    if (tries === 20 || !stderr.includes('accurate CPU usage')) throw new Error(`qemu-img: ${stderr}`);
  }
}

/** Runs a line of shell, which must succeed, with `words` as $0, $1 … */
export function runShell(line: string, ...words: readonly string[]): Promise<string> {
  return runProgram('sh', '-c', line, ...words);
}
