// One run of fio, and its results. Called by contestants.ts only; a run with an error, or one that takes far
// too long, throws.

import { execFileSync } from 'node:child_process';
import { runFio } from '../../test/support/run/fio.js';
import { AS_NORMAL_USER } from '../../test/support/run/normal-user.js';
import type { Scope } from '../../test/support/run/scope.js';

/** A job of fio: its own options, without the leading dashes. */
export type FioJob = Readonly<Record<string, string | number>>;

/** The result: bytes and operations per second, of reads and writes together. */
export interface FioResult {
  readonly bandwidth: number;
  readonly iops: number;
  readonly bytes: number;
}

/** The user who runs fio, and where it looks for certificates. */
export interface FioRunner {
  readonly scope: Scope;
  readonly asNobody: boolean;
  readonly environment: Readonly<Record<string, string>>;
}

/** A run that has not ended by then hangs. */
const PATIENCE_SECONDS = 60;

async function fio(job: FioJob, { scope, asNobody, environment }: FioRunner): Promise<FioResult> {
  const words = Object.entries({ name: 'bench', ...job }).map(([name, value]) => `--${name}=${value}`);
  const prefix = asNobody ? AS_NORMAL_USER : [];
  const { read, write } = await runFio(scope, PATIENCE_SECONDS, words, { prefix, environment });
  const bytes = read.io_bytes + write.io_bytes;
  if (bytes === 0) throw new Error('fio moved nothing');
  return { bandwidth: read.bw_bytes + write.bw_bytes, iops: read.iops + write.iops, bytes };
}

/** Runs `job` on an existing file. Its cached pages are dropped first unless the job says `invalidate: 0`. */
export function fioOnFile(file: string, job: FioJob, runner: FioRunner): Promise<FioResult> {
  return fio({ ioengine: 'psync', allow_file_create: 0, filename: file, ...job }, runner);
}

let engines: string | undefined;

/** Whether this fio was built with its NBD engine; if not, prints that once on standard error. */
export function canReachServers(): boolean {
  if (engines === undefined) {
    engines = execFileSync('fio', ['--enghelp'], { encoding: 'utf8' });
    if (!hasNbd(engines)) console.error('bench: this fio has no NBD engine: the limit is not measured');
  }
  return hasNbd(engines);
}

const hasNbd = (list: string): boolean => /^\s*nbd$/m.test(list);

/** Options about files, which have no meaning for a server. */
const OF_FILES = new Set(['direct', 'invalidate', 'end_fsync', 'pre_read', 'loops']);

/** The kernel's cache merges smaller requests into requests of this size, and has many in flight. */
const CACHED = { bs: '1M', iodepth: 32 };

/**
 * Runs `job` directly on a server: the limit for every mount. Merges requests as the cache of a buffered file
 * does.
 */
export function fioOnServer(uri: string, job: FioJob, runner: FioRunner): Promise<FioResult> {
  const plain = Object.fromEntries(Object.entries(job).filter(([name]) => !OF_FILES.has(name)));
  const isRandom = String(job.rw).startsWith('rand');
  const how = job.direct === 1 ? { iodepth: 1 } : isRandom ? { iodepth: CACHED.iodepth } : CACHED;
  return fio({ ioengine: 'nbd', uri, ...plain, ...how }, runner);
}
