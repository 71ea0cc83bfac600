// Running the small programs of mounting: fusermount3 and umount.
//
// Always asynchronous: they may wait for the very file system that this process serves.

import { spawn } from 'node:child_process';

/** How a program has ended. */
export interface Outcome {
  /** Exit status; -1 when it could not be started or was killed. */
  readonly status: number;
  /** What it wrote to stderr, trimmed, at most 4096 characters. */
  readonly errorText: string;
  /** Whether there is no such program. */
  readonly missing: boolean;
}

/** Runs a program to its end; `inherited` descriptors become its 3, 4, …. Never rejects. */
export function runProgram(
  command: string,
  argv: readonly string[],
  inherited: readonly number[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  return new Promise((done) => {
    const child = spawn(command, [...argv], {
      stdio: ['ignore', 'ignore', 'pipe', ...inherited],
      env: { ...process.env, LC_ALL: 'C', ...environment },
    });
    let errorText = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      errorText = (errorText + chunk.toString('utf8')).slice(0, 4096);
    });
    child.on('error', (error) => {
      const missing = 'code' in error && error.code === 'ENOENT';
      done({ status: -1, errorText: error.message, missing });
    });
    child.on('close', (status) => {
      done({ status: status ?? -1, errorText: errorText.trim(), missing: false });
    });
  });
}
