// The case of mounts that use nothing of lazy images: with --before, the same jobs with an nbdfuse of before.

import type { Scope } from '../../../test/support/run/scope.js';
import { type FioJob, fioOnFile } from '../fio.js';
import { nbdkit } from '../servers.js';
import { mount, type Side } from '../sides.js';
import type { LazyCase, LazyField } from './lazy-case.js';
import { type Figures, Rounds } from './turns.js';

const TIMED = { direct: 1, time_based: 1, runtime: 1, size: '512M' } as const;
const JOBS: readonly (readonly [text: string, job: FioJob])[] = [
  ['4k random read, direct, 1 job', { ...TIMED, rw: 'randread', bs: '4k' }],
  ['4k random read, direct, 8 jobs', { ...TIMED, rw: 'randread', bs: '4k', numjobs: 8 }],
  ['4k random write, direct, 1 job', { ...TIMED, rw: 'randwrite', bs: '4k' }],
  ['4k random write, direct, 8 jobs', { ...TIMED, rw: 'randwrite', bs: '4k', numjobs: 8 }],
  ['1M sequential read, buffered', { rw: 'read', bs: '1M', size: '1G' }],
  ['1M sequential read, direct', { ...TIMED, rw: 'read', bs: '1M' }],
  ['1M sequential write, buffered', { rw: 'write', bs: '1M', size: '1G', end_fsync: 1 }],
  ['1M sequential write, direct', { ...TIMED, rw: 'write', bs: '1M' }],
];

/** At least this part of the speed of before. */
const BAR = 0.97;

/**
 * Runs of one job by each side in a round. The load of the machine changes within seconds by more than the bar allows:
 * many short runs in turns, with both mounts there all the time, compare better than a few long ones.
 */
const TURNS = 6;

/** One round: the speed of each job on two mounts of one server, MiB/s, as the mean of runs in turns. */
async function play(scope: Scope, sides: readonly Side[]): Promise<Figures[]> {
  const server = await nbdkit(scope, 'memory', '1G');
  const mounts = await Promise.all(sides.map((side) => mount(scope, side, server)));
  const plain = { scope, asNobody: false, environment: {} };
  const figures = mounts.map((): Record<string, number> => ({}));
  for (const [text, job] of JOBS) {
    // The first turn warms up.
    for (let turn = 0; turn <= TURNS; turn++) {
      const order = [...mounts.keys()];
      for (const i of turn % 2 === 0 ? order : order.toReversed()) {
        const { bandwidth } = await fioOnFile(mounts[i].file, job, plain);
        if (turn > 0) figures[i][text] = (figures[i][text] ?? 0) + bandwidth / 2 ** 20 / TURNS;
      }
    }
  }
  for (const mounted of mounts) await mounted.unmount();
  return figures;
}

async function measure(outer: Scope, { ours, before, rounds }: LazyField) {
  if (before === undefined) {
    console.error('bench: lazy-unused is left out without --before');
    return [];
  }
  const all = new Rounds();
  for (let i = 0; i < rounds; i++) {
    const scope = outer.inner();
    try {
      // A mount that began second is up to 5 % faster.
      const isFirst = i % 2 === 0;
      const figures = await play(scope, isFirst ? [ours, before] : [before, ours]);
      const [mine, theirs] = isFirst ? figures : figures.toReversed();
      all.add('ours', mine);
      all.add('before', theirs);
    } finally {
      await scope.close();
    }
    console.error(`bench: round ${i + 1}`);
  }
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
