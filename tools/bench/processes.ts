// The cost of a process so far, and the rights of /dev/fuse while a normal user is measured.

import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import type { Scope } from '../../test/support/run/scope.js';

/** Lets a normal user open /dev/fuse until the scope ends. */
export function openFuseToAll(scope: Scope): void {
  const { mode } = statSync('/dev/fuse');
  if ((mode & 0o666) === 0o666) return;
  chmodSync('/dev/fuse', 0o666);
  scope.add(() => chmodSync('/dev/fuse', mode & 0o7777));
}

const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** CPU seconds that a process and its threads have used. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function kibibytes(path: string, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(path, 'utf8'));
  return found === null ? 0 : Number(found[1]) / 1024;
}

/** The peak memory of a process in MiB: the maximum resident set size of /usr/bin/time. */
export const peakMiB = (pid: number): number => kibibytes(`/proc/${pid}/status`, 'VmHWM');

/** The memory of a process in MiB; a page that n processes share counts 1/n. */
export const proportionalMiB = (pid: number): number => kibibytes(`/proc/${pid}/smaps_rollup`, 'Pss');
