// The case of FUSE passthrough: a mount whose cache file is complete, with and without it.

import { open } from 'node:fs/promises';
import { runWithin } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';
import { type FioJob, fioOnFile } from '../fio.js';
import { type Mounted, mountWords, type Side } from '../sides.js';
import type { LazyCase, LazyField } from './lazy-case.js';
import { readWhole } from './reading.js';
import { takeTurns } from './turns.js';
import { startWeb } from './web.js';

const MEBIBYTES = 512;
const PATIENCE_SECONDS = 30;

const JOBS: readonly (readonly [name: string, text: string, job: FioJob])[] = [
  ['random', '4k random read, direct', { rw: 'randread', bs: '4k', direct: 1, time_based: 1, runtime: 3 }],
  ['sequential', '1M sequential read, buffered', { rw: 'read', bs: '1M', time_based: 1, runtime: 3 }],
];

async function isActive(scope: Scope, side: Side, { file }: Mounted): Promise<boolean> {
  const words = [...side.command, '--status', '--json', file.slice(0, file.lastIndexOf('/'))];
  const shown = await runWithin(scope, PATIENCE_SECONDS, ['env', `--chdir=${process.cwd()}`, ...words]);
  return /"passthrough":\s*\{\s*"active":\s*true/.test(shown);
}

async function runJobs(scope: Scope, file: string): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  for (const [name, , job] of JOBS) {
    const plain = { scope, asNobody: false, environment: {} };
    const { bandwidth } = await fioOnFile(file, { ...job, size: `${MEBIBYTES}M` }, plain);
    figures[name] = bandwidth / 2 ** 20;
  }
  return figures;
}

async function measure(outer: Scope, { ours, images, rounds }: LazyField) {
  const raw = await images.raw(MEBIBYTES);
  const web = await startWeb(outer, images.folder, 0);
  const cache = outer.path('cache');
  const words = {
    server: [web.url(raw.slice(images.folder.length + 1))],
    options: ['-r', `--cache-file=${cache}`],
  };
  const all = await takeTurns(outer, rounds, [
    {
      name: 'without',
      play: async (scope) => {
        const side = { ...words, options: ['-r', `--cache-file=${scope.path('cache')}`] };
        const mounted = await mountWords(scope, ours, side);
        // The file becomes complete while a program has it open, which rules passthrough out until it is closed.
        const handle = await open(mounted.file);
        await readWhole(scope, mounted.file, raw);
        const figures = await runJobs(scope, mounted.file);
        if (await isActive(scope, ours, mounted)) throw new Error('passthrough is active, and should not be');
        await handle.close();
        await mounted.unmount();
        return figures;
      },
    },
    {
      name: 'with',
      play: async (scope) => {
        const first = await mountWords(scope, ours, words);
        await readWhole(scope, first.file, raw);
        await first.unmount();
        const mounted = await mountWords(scope, ours, words);
        if (!(await isActive(scope, ours, mounted))) throw new Error('passthrough is not active');
        const figures = await runJobs(scope, mounted.file);
        await readWhole(scope, mounted.file, raw);
        await mounted.unmount();
        return figures;
      },
    },
  ]);
  return JOBS.map(([name, text]) => ({
    text: `passthrough of a complete cache file: ${text}`,
    unit: 'MiB/s' as const,
    ours: all.of('with', name),
    other: all.of('without', name),
    otherName: 'nbdfuse without passthrough',
    bar: { faster: 5 },
  }));
}

export const PASSTHROUGH_CASE: LazyCase = {
  name: 'lazy-passthrough',
  text: 'FUSE passthrough of a complete cache file, and without',
  measure,
};
