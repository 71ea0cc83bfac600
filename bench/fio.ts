// One run of fio, and what it says.

import { spawn } from 'node:child_process';

/** What fio is to do: its own words, without the leading dashes. */
export type FioJob = Readonly<Record<string, string | number>>;

/** What came out: bytes and operations, both a second, reading and writing together. */
export interface FioResult {
  readonly bandwidth: number;
  readonly iops: number;
  readonly bytes: number;
}

interface Direction {
  readonly bw_bytes: number;
  readonly iops: number;
  readonly io_bytes: number;
}

/** Runs fio on a file (or with `uri` in the job, on a server). @throws Error when it reports one */
export function fio(file: string | undefined, job: FioJob, asNobody = false): Promise<FioResult> {
  const words = Object.entries({
    name: 'bench',
    ioengine: 'psync',
    allow_file_create: 0,
    group_reporting: 1,
    'output-format': 'json',
    ...(file === undefined ? {} : { filename: file }),
    ...job,
  }).map(([name, value]) => `--${name}=${value}`);
  const who = asNobody ? ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups'] : [];
  const argv = [...who, 'fio', ...words];
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'], cwd: '/tmp' });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
    });
    child.on('error', reject);
    child.on('close', (status) => {
      const json = output.slice(output.indexOf('{'));
      if (status !== 0 || json === '') {
        reject(new Error(`fio ended with status ${status}: ${output.slice(0, 300)}`));
        return;
      }
      const parsed = JSON.parse(json) as { jobs: { error: number; read: Direction; write: Direction }[] };
      const [{ error, read, write }] = parsed.jobs;
      if (error !== 0) reject(new Error(`fio met error ${error}`));
      resolve({
        bandwidth: read.bw_bytes + write.bw_bytes,
        iops: read.iops + write.iops,
        bytes: read.io_bytes + write.io_bytes,
      });
    });
  });
}
