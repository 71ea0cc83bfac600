// One run of fio and its result, for tools.

import { runWithin } from './program.js';
import type { Scope } from './scope.js';

/** The reads or the writes of a run. */
export interface FioDirection {
  readonly bw_bytes: number;
  readonly iops: number;
  readonly io_bytes: number;
}

/** How fio is started: a command in front of it, and variables. */
export interface FioStart {
  readonly prefix?: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
}

/**
 * Runs one job, or a group of jobs that report together.
 * @param words options of fio @throws Error when an operation fails, or after so many seconds
 */
export async function runFio(
  scope: Scope,
  seconds: number,
  words: readonly string[],
  { prefix = [], environment }: FioStart = {},
): Promise<{ read: FioDirection; write: FioDirection }> {
  const argv = [...prefix, 'fio', '--group_reporting=1', '--output-format=json', ...words];
  const output = await runWithin(scope, seconds, argv, environment);
  const parsed = JSON.parse(output.slice(output.indexOf('{'))) as {
    jobs: { error: number; read: FioDirection; write: FioDirection }[];
  };
  const [{ error, read, write }] = parsed.jobs;
  if (error !== 0) throw new Error(`fio met error ${error}`);
  return { read, write };
}
