// The case of mounts that use nothing of lazy images: with --before, the same jobs with an nbdfuse of before.

import type { Scope } from '../../../test/support/run/scope.js';
import { type FioJob, fioOnFile } from '../fio.js';
import { nbdkit } from '../servers.js';
import { mount, type Side } from '../sides.js';
import type { LazyCase, LazyField } from './lazy-case.js';
import { type Figures, takeTurns } from './turns.js';

const TIMED = { direct: 1, time_based: 1, runtime: 2, size: '512M' } as const;
const JOBS: readonly (readonly [text: string, job: FioJob])[] = [
  ['4k random read, direct, 1 job', { ...TIMED, rw: 'randread', bs: '4k' }],
  ['4k random read, direct, 8 jobs', { ...TIMED, rw: 'randread', bs: '4k', numjobs: 8 }],
  ['4k random write, direct, 1 job', { ...TIMED, rw: 'randwrite', bs: '4k' }],
  ['4k random write, direct, 8 jobs', { ...TIMED, rw: 'randwrite', bs: '4k', numjobs: 8 }],
  ['1M sequential read, buffered', { rw: 'read', bs: '1M', size: '1G', loops: 2 }],
  ['1M sequential read, direct', { ...TIMED, rw: 'read', bs: '1M' }],
  ['1M sequential write, buffered', { rw: 'write', bs: '1M', size: '1G', loops: 2, end_fsync: 1 }],
  ['1M sequential write, direct', { ...TIMED, rw: 'write', bs: '1M' }],
];

/** At least this part of the speed of before. */
const BAR = 0.97;

async function play(scope: Scope, side: Side): Promise<Figures> {
  const mounted = await mount(scope, side, await nbdkit(scope, 'memory', '1G'));
  const figures: Record<string, number> = {};
  for (const [text, job] of JOBS) {
    const plain = { scope, asNobody: false, environment: {} };
    // The first run warms up.
    await fioOnFile(mounted.file, { ...job, runtime: 1, loops: 1 }, plain);
    figures[text] = (await fioOnFile(mounted.file, job, plain)).bandwidth / 2 ** 20;
  }
  await mounted.unmount();
  return figures;
}

async function measure(outer: Scope, { ours, before, rounds }: LazyField) {
  if (before === undefined) {
    console.error('bench: lazy-unused is left out without --before');
    return [];
  }
  const all = await takeTurns(outer, rounds, [
    { name: 'ours', play: (scope) => play(scope, ours) },
    { name: 'before', play: (scope) => play(scope, before) },
  ]);
  return JOBS.map(([text]) => ({
    text: `mounts without lazy images: ${text}`,
    unit: 'MiB/s' as const,
    ours: all.of('ours', text),
    other: all.of('before', text),
    otherName: 'nbdfuse of before',
    bar: { faster: BAR },
  }));
}

export const UNUSED_CASE: LazyCase = {
  name: 'lazy-unused',
  text: 'mounts that use nothing of lazy images, against an nbdfuse of before (--before CMD)',
  measure,
};
