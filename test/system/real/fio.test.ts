import { expect, it } from 'vitest';
import { withBackends } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('fio', 'nbdkit');

const JOBS = 8;
/** MiB of the disk that each job has for itself: random writes of two jobs would spoil each other's sums. */
const REGION = 4;

interface FioReport {
  readonly jobs: readonly { readonly error: number; readonly write: { readonly total_ios: number } }[];
}

const CHECKSUMS = ['--verify=crc32c'];

const EIGHT_JOBS = [...CHECKSUMS, `--numjobs=${JOBS}`, `--size=${REGION}M`, `--offset_increment=${REGION}M`];

/**
 * fio 3.33 maps a file from its start and ignores the job's offset: with mmap, each job covers the whole
 * file.
 */
const ONE_JOB = [...CHECKSUMS, `--size=${JOBS * REGION}M`];

/** So eight jobs share the whole file; each job writes the offset of a place to that place. */
const SHARED = [`--numjobs=${JOBS}`, '--size=8M', '--verify=pattern', '--verify_pattern=%o'];

/** The ways in which an application can do its reads and writes. */
const WAYS: readonly (readonly [string, readonly string[]])[] = [
  ['eight buffered fio jobs', [...EIGHT_JOBS, '--ioengine=psync', '--end_fsync=1']],
  ['eight direct fio jobs', [...EIGHT_JOBS, '--ioengine=libaio', '--iodepth=8', '--direct=1']],
  ['a fio job by mmap', [...ONE_JOB, '--ioengine=mmap']],
  ['eight fio jobs by mmap on the same pages', [...SHARED, '--ioengine=mmap']],
];

const NATIVE = 'the fuse-native backend';

/** libfuse 2 is slow with small blocks, so it gets only the middle size. */
const CASES = withBackends(
  WAYS.flatMap(([way, words]) => ['4k', '64k', '1m'].map((size) => [way, size, words] as const)),
)
  .map(([way, size, words, backend, options]) => [way, size, backend, words, options] as const)
  .filter(([, size, backend]) => size === '64k' || backend !== NATIVE);

it.each(CASES)('fio: %s write and verify blocks of %s, by %s', async (way, size, _, words, options) => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', `${JOBS * REGION}M`);
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  const report = await runProgram(
    'fio',
    '--name=job',
    '--output-format=json',
    '--allow_file_create=0',
    '--rw=randwrite',
    '--verify_fatal=1',
    '--verify_state_save=0',
    '--thread',
    `--filename=${disk.file}`,
    `--bs=${size}`,
    ...words,
  );
  const { jobs } = JSON.parse(report.slice(report.indexOf('{'))) as FioReport;
  expect(jobs.map(({ error }) => error)).toEqual(jobs.map(() => 0));
  expect(jobs.length).toBe(way.startsWith('eight') ? JOBS : 1);
  expect(jobs.every(({ write }) => write.total_ios > 0)).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
});
