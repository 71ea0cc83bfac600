// Programs that read endlessly, the status of the mount, and a simulated machine with more processors.

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { type MountedDisk, NBDFUSE } from './run/mount.js';
import { Program, type ProgramOptions } from './run/program.js';
import type { Scope } from './run/scope.js';

const run = promisify(execFile);

/** The fields of `--status --json` that the tests of threads use. */
export interface ThreadStatus {
  readonly threads: number;
  readonly reads: { readonly count: number };
  readonly connections: readonly { readonly number: number; readonly inFlight: number }[];
}

export async function statusOf({ mountpoint }: MountedDisk): Promise<ThreadStatus> {
  const { stdout } = await run(process.execPath, [NBDFUSE, '--status', '--json', mountpoint]);
  const { files }: { files: ThreadStatus[] } = JSON.parse(stdout);
  return files[0];
}

/** Endless small random reads of the first 32 MiB, by eight threads of fio. Needs the program fio. */
export function startReading(scope: Scope, { file }: MountedDisk, ...more: readonly string[]): Program {
  const job = ['--rw=randread', '--bs=4k', '--size=32M', '--direct=1', '--numjobs=8', '--thread'];
  const words = [`--filename=${file}`, ...job, '--time_based', '--runtime=600', '--allow_file_create=0'];
  return new Program(scope, 'fio', ['--name=read', ...words, ...more]);
}

/** The command that starts nbdfuse so that each of its threads runs `code` first. */
export function preloaded(scope: Scope, code: string): ProgramOptions {
  const path = scope.path('preloaded.cjs');
  writeFileSync(path, `${code}\n`);
  return { env: { NODE_OPTIONS: `--require=${path}` } };
}

/** The command that starts it so that it believes that the machine has eight processors. */
export const withEightProcessors = (scope: Scope): ProgramOptions =>
  preloaded(scope, "require('node:os').availableParallelism = () => 8;");
