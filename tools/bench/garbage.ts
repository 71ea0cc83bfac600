// The garbage of a million requests: how often the collector runs, how long it stops the worker, and whether
// the surviving memory grows.

import { readFileSync } from 'node:fs';
import type { Scope } from '../../test/support/run/scope.js';
import { fioOnFile } from './fio.js';
import { nbdkit } from './servers.js';
import { mount, type Side } from './sides.js';

const JOBS = 8;
const REQUESTS = 2 ** 20;

/** The collector's work while one kind of request was done. */
export interface Garbage {
  readonly text: string;
  readonly requests: number;
  readonly collections: number;
  /** MiB that survived a collection, after a quarter of the run and at its end. */
  readonly early: number;
  readonly late: number;
  /** Milliseconds for which the collector stopped the worker: the median and the longest. */
  readonly medianPause: number;
  readonly longestPause: number;
}

interface Collection {
  readonly survived: number;
  readonly pause: number;
}

/** Lines of node's --trace-gc, of the thread that has most of them: the worker. */
function collections(text: string): readonly Collection[] {
  const byThread = new Map<string, Collection[]>();
  const line = /^\[\d+:(0x\w+)\]\s+\d+ ms: [^>]*-> ([\d.]+) \([\d.]+\) MB, ([\d.]+) \//gm;
  for (const [, thread, survived, pause] of text.matchAll(line)) {
    const all = byThread.get(thread) ?? [];
    byThread.set(thread, all);
    all.push({ survived: Number(survived), pause: Number(pause) });
  }
  return [...byThread.values()].reduce((most, one) => (one.length > most.length ? one : most), []);
}

/** Runs a million 4k requests of one kind, 8 at a time, and reads the output of the collector. */
async function measureOne(outer: Scope, { name, command }: Side, rw: string): Promise<Garbage> {
  const scope = outer.inner();
  const log = scope.path('gc');
  const [program, ...words] = command;
  const traced = ['sh', '-c', `exec "$@" >${log}`, 'sh', program, '--trace-gc', ...words];
  const target = await nbdkit(scope, 'memory', '512M');
  const mounted = await mount(scope, { name, command: traced }, target);
  const job = { rw, bs: '4k', size: '512M', direct: 1, numjobs: JOBS, number_ios: REQUESTS / JOBS };
  // Each job alone would read its whole size once, which is more than the case needs.
  const again = { io_size: `${(REQUESTS / JOBS) * 4}k` };
  const plain = { scope, asNobody: false, environment: {} };
  const { bytes } = await fioOnFile(mounted.file, { ...job, ...again }, plain);
  await mounted.unmount();
  const all = collections(readFileSync(log, 'utf8'));
  if (all.length < 8) throw new Error('the command is not node, or says nothing of its collections');
  const settled = all.slice(all.length >> 2);
  const pauses = settled.map(({ pause }) => pause).sort((a, b) => a - b);
  return {
    text: rw,
    requests: bytes / 4096,
    collections: all.length,
    early: settled[0].survived,
    late: settled[settled.length - 1].survived,
    medianPause: pauses[pauses.length >> 1],
    longestPause: pauses[pauses.length - 1],
  };
}

/**
 * Random reads and random writes that bypass the kernel's cache. `side` must be a command that begins with
 * node.
 */
export async function measureGarbage(scope: Scope, side: Side): Promise<readonly Garbage[]> {
  return [await measureOne(scope, side, 'randread'), await measureOne(scope, side, 'randwrite')];
}
