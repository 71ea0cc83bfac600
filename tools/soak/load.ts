// The load on one mount: passes of fio that write every block and then read all of them back.
//
// Used by soaked-mount.ts. The data name the pass and the place, so that a lost write is detected. Reading
// back is a separate run with O_DIRECT, which reads from the server.

import { runFio } from '../../test/support/run/fio.js';
import type { Scope } from '../../test/support/run/scope.js';

/** Bytes that each of the jobs writes to. */
const JOB_SIZE = 8 * 1024 * 1024;
const JOBS = 8;

/** Bytes of a disk for this load. */
export const DISK_SIZE = JOBS * JOB_SIZE;

/** Maximum operations of one job per second, so that faults occur during a pass. */
const RATE = 250;

/** Seconds after which a run that has not ended hangs. */
const PATIENCE = 600;

/** The way in which each pass writes, by turns. */
const KINDS: readonly (readonly string[])[] = [
  ['--rw=randwrite', '--bs=4k', '--direct=1'],
  ['--rw=randwrite', '--bs=16k', '--direct=0', '--fsync=32'],
  ['--rw=write', '--bs=128k', '--direct=0', '--end_fsync=1'],
  ['--rw=randwrite', '--bs=32k', '--direct=1', '--fdatasync=64'],
  ['--rw=randwrite', '--bs=8k', '--direct=0'],
];

/** Bytes that a pass has moved. */
export interface Moved {
  readonly written: number;
  readonly verified: number;
}

function words(file: string, pass: number): string[] {
  return [
    '--name=soak',
    `--filename=${file}`,
    `--size=${JOB_SIZE}`,
    `--offset_increment=${JOB_SIZE}`,
    `--numjobs=${JOBS}`,
    `--randseed=${pass + 1}`,
    '--ioengine=psync',
    '--allow_file_create=0',
    '--verify=pattern',
    `--verify_pattern="pass ${String(pass).padStart(7, '0')};"%o`,
    '--verify_interval=4096',
    '--verify_fatal=1',
    '--verify_state_save=0',
    `--rate_iops=${RATE}`,
    ...KINDS[pass % KINDS.length],
  ];
}

async function fio(scope: Scope, argv: readonly string[]): Promise<Moved> {
  const { read, write } = await runFio(scope, PATIENCE, argv);
  return { written: write.io_bytes, verified: read.io_bytes };
}

/** Writes everything anew. @throws Error with fio's output when an operation fails */
export function writeAll(scope: Scope, file: string, pass: number): Promise<Moved> {
  return fio(scope, [...words(file, pass), '--do_verify=0']);
}

/** Reads back what a pass has written. @throws Error with fio's output when a byte is wrong */
export function verifyAll(scope: Scope, file: string, pass: number): Promise<Moved> {
  return fio(scope, [...words(file, pass), '--verify_only', '--direct=1']);
}
