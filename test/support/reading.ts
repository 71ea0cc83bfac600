// Programs that read without end, their status, and a machine that has more processors.

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

/** Small random reads without end, by eight threads of fio, of the first 32 MiB. Needs the program fio. */
export function startReading(scope: Scope, { file }: MountedDisk, ...more: readonly string[]): Program {
  const job = ['--rw=randread', '--bs=4k', '--size=32M', '--direct=1', '--numjobs=8', '--thread'];
  const words = [`--filename=${file}`, ...job, '--time_based', '--runtime=600', '--allow_file_create=0'];
  return new Program(scope, 'fio', ['--name=read', ...words, ...more]);
}

/** How nbdfuse is started so that it runs `code` before its own, in each of its threads. */
export function preloaded(scope: Scope, code: string): ProgramOptions {
  const path = scope.path('preloaded.cjs');
  writeFileSync(path, `${code}\n`);
  return { env: { NODE_OPTIONS: `--require=${path}` } };
}

/** How it is started so that it takes the machine for one of eight processors. */
export const withEightProcessors = (scope: Scope): ProgramOptions =>
  preloaded(scope, "require('node:os').availableParallelism = () => 8;");
