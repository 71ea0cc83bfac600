// Runs the programs fusermount3, mount and umount.
//
// Always asynchronous: they may wait for the file system that this process serves.

import { spawn } from 'node:child_process';
import { wordsWithPath } from '../linux/path-text.js';
import { whyFailed } from './errors.js';

/** Maximum number of characters of a program's output to keep. */
const TEXT_LIMIT = 4096;

/** The commands that install the programs. */
const REMEDIES = {
  fusermount3: 'apt-get install fuse3',
  mount: 'apt-get install mount',
  umount: 'apt-get install mount',
} as const;

/** How a program has ended. */
export interface Outcome {
  readonly command: keyof typeof REMEDIES;
  /** Exit status; -1 when it could not be started or was killed. */
  readonly status: number;
  /** Its stderr, trimmed, at most 4096 characters. */
  readonly errorText: string;
  /** Whether there is no such program; `remedy` installs it. */
  readonly missing: boolean;
  /** Whether it had not ended in time. */
  readonly late?: boolean;
  readonly remedy: string;
}

/** How to run a program. */
export interface ProgramOptions {
  /** Descriptors that become its 3, 4, …. */
  readonly inherited?: readonly number[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Ends the wait: the program is killed, or left behind if it waits in the kernel. */
  readonly late?: AbortSignal | undefined;
}

/** Runs a program, whose last word is `path`. Never rejects. */
export function runProgram(
  [command, ...options]: readonly [keyof typeof REMEDIES, ...string[]],
  path: string,
  { inherited = [], environment = {}, late }: ProgramOptions = {},
): Promise<Outcome> {
  const remedy = REMEDIES[command];
  return new Promise((done) => {
    const [file, ...words] = wordsWithPath([command, ...options], path);
    const child = spawn(file, words, {
      stdio: ['ignore', 'ignore', 'pipe', ...inherited],
      env: { ...process.env, LC_ALL: 'C', ...environment },
    });
    const leave = (): void => {
      child.kill('SIGKILL');
      child.stderr?.destroy();
      child.unref();
      done({ command, status: -1, errorText: '', missing: false, remedy, late: true });
    };
    if (late?.aborted) leave();
    late?.addEventListener('abort', leave, { once: true });
    let errorText = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      errorText = (errorText + chunk.toString('utf8')).slice(0, TEXT_LIMIT);
    });
    child.on('error', (error) => {
      const missing = 'code' in error && error.code === 'ENOENT';
      done({ command, status: -1, errorText: whyFailed(error), missing, remedy });
    });
    child.on('close', (status) => {
      done({ command, status: status ?? -1, errorText: errorText.trim(), missing: false, remedy });
    });
  });
}
