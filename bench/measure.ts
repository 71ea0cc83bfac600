// One case: all sides mounted on one server, measured by turns, compared pair by pair.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { Case } from './cases.js';
import { fio } from './fio.js';
import { cpuSeconds, folder, peakMiB } from './processes.js';
import { type Mounted, mount, type Side } from './sides.js';

/** What one side did in one case. */
export interface Outcome {
  readonly side: string;
  /** Bytes a second, each round's. */
  readonly bandwidths: number[];
  readonly cpuPerGiB: number[];
  readonly peakMiB: number;
}

/** A case with what came out. */
export interface Measured {
  readonly name: string;
  readonly text: string;
  readonly bar: number | undefined;
  readonly outcomes: readonly Outcome[];
}

/** The middle one; the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median over the rounds of first / second. */
export function ratio(first: Outcome, second: Outcome): number {
  return median(first.bandwidths.map((value, i) => value / second.bandwidths[i]));
}

async function round(
  one: Case,
  mounted: Mounted,
  seconds: number,
): Promise<{ bandwidth: number; cpu: number }> {
  if (one.cold === true) writeFileSync('/proc/sys/vm/drop_caches', '1');
  const before = cpuSeconds(mounted.pid);
  const job = { runtime: seconds, ...one.job };
  const { bandwidth, bytes } = await fio(mounted.file, job, one.asNobody === true);
  const cpu = cpuSeconds(mounted.pid) - before;
  return { bandwidth, cpu: cpu / (bytes / 2 ** 30) };
}

/** Measures a case: a round to warm up, which does not count, then `rounds` by turns. */
export async function measure(
  one: Case,
  all: readonly Side[],
  rounds: number,
  seconds: number,
): Promise<Measured> {
  const where = folder();
  const { uri, environment } = await one.serve(where);
  if (one.asNobody === true) execFileSync('chmod', ['0666', '/dev/fuse']);
  const mounts: Mounted[] = [];
  for (const side of all) mounts.push(await mount(side, where, uri, environment, one.asNobody === true));
  const outcomes = mounts.map(({ side }) => ({
    side: side.name,
    bandwidths: [] as number[],
    cpuPerGiB: [] as number[],
    peakMiB: 0,
  }));
  for (let i = -1; i < rounds; i++) {
    for (const [j, mounted] of mounts.entries()) {
      const { bandwidth, cpu } = await round(one, mounted, seconds);
      if (i < 0) continue;
      outcomes[j].bandwidths.push(bandwidth);
      outcomes[j].cpuPerGiB.push(cpu);
    }
  }
  for (const [j, mounted] of mounts.entries()) {
    outcomes[j].peakMiB = peakMiB(mounted.pid);
    mounted.unmount();
  }
  return { name: one.name, text: one.text, bar: one.bar, outcomes };
}
