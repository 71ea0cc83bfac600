// `npm run fuzz:file -- --operations N --seed S`: random operations on a mounted file and on a plain one,
// case after case, until N were played. The seeds of the cases are S, S + 1 and so on; a seed chooses
// configuration and operations; `--case cache=none,actors=direct` pins parts of it.
//
// Prints a summary in Markdown. Exits with 1 after a difference. It keeps the logs and disks of a finding,
// and plays the case again, for `--shrink SECONDS`, without some of the operations. It prints the shortest
// list that still fails, and the command that plays it (`--keep LIST`).

import { copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makePki } from '../../test/support/run/certificates.js';
import { freePort } from '../../test/support/run/ports.js';
import type { Scope } from '../../test/support/run/scope.js';
import { runToEnd } from '../run-to-end.js';
import { playCase } from './case.js';
import { parsePlaces, textOfPlaces } from './kept.js';
import { describe, type Plan, parsePins, planOf } from './plan.js';
import { type Opening, shrink } from './shrink.js';
import { Finding, Stage } from './stage.js';
import { Tally } from './tally.js';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    /** Operations of each actor in a case. */
    length: { type: 'string', default: '3000' },
    /** Concurrent cases. */
    jobs: { type: 'string', default: '2' },
    case: { type: 'string', default: '' },
    /** Seconds for shrinking a finding. */
    shrink: { type: 'string', default: '120' },
    /** The operations of the seed's case that are played. */
    keep: { type: 'string' },
  },
});
const number = (name: 'operations' | 'seed' | 'length' | 'jobs' | 'shrink', least = 1): number => {
  const value = Number(values[name]);
  if (!Number.isSafeInteger(value) || value < least) throw new Error(`--${name} takes a number`);
  return value;
};
const [operations, seed, length, jobs] = [
  number('operations'),
  number('seed'),
  number('length'),
  number('jobs'),
];
const patience = number('shrink', 0);
const pins = parsePins(values.case);
const kept = values.keep === undefined ? undefined : parsePlaces(values.keep);

/** The folder for the logs and disks of findings. */
const FOUND = fileURLToPath(new URL('../../../differential/found', import.meta.url));

/** Findings after which no new case begins. */
const ENOUGH = 3;

/** Lines of the logs to show for a finding. */
const LINES = 15;

const tally = new Tally();

/** Plays one case. A finding does not make it reject. */
async function play(plan: Plan, open: Opening): Promise<void> {
  const stage = await open(plan);
  const startedAt = performance.now();
  try {
    await playCase(stage, plan, { length, kept }, (more) => tally.played(plan, more));
    stage.remove();
  } catch (error) {
    await reportFinding(plan, stage, error, open);
  }
  tally.ended(plan, stage.faults.counts, stage.deaths.length);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const { cut, kill, freeze, end } = stage.faults.counts;
  console.error(
    `seed ${plan.seed}: ${describe(plan)}: ${cut} cuts, ${kill} kills, ${freeze} freezes, ${end} ends of the chunk server, ${seconds} s`,
  );
}

async function reportFinding(plan: Plan, stage: Stage, error: unknown, open: Opening): Promise<void> {
  if (!(error instanceof Finding)) throw error;
  tally.found(plan, error.message);
  const found = join(FOUND, `seed${plan.seed}`);
  console.error(`seed ${plan.seed}: ${error.message}\n${stage.lastWords(LINES)}\nkept in ${found}`);
  await stage.abandon();
  mkdirSync(found, { recursive: true });
  const names = readdirSync(stage.folder).filter((name) => /\.(log|raw)$/.test(name));
  for (const name of names) copyFileSync(join(stage.folder, name), join(found, name));
  stage.remove();
  if (patience > 0 && !error.hangs) await reportShortest(plan, open);
}

async function reportShortest(plan: Plan, open: Opening): Promise<void> {
  const shortest = await shrink(plan, { length, kept }, patience, open);
  if (shortest === undefined) {
    console.error(`seed ${plan.seed} does not fail again: it takes luck, too`);
    return;
  }
  const words = [`--seed ${plan.seed}`, '--operations 1', `--length ${length}`, `--case ${describe(plan)}`];
  console.error(
    `the shortest list that fails, of ${shortest.tries} tries: ${shortest.why}\n${shortest.log}` +
      `npm run fuzz:file -- ${words.join(' ')} --keep ${textOfPlaces(shortest.kept)}`,
  );
}

async function main(scope: Scope): Promise<void> {
  const pki = makePki(scope.path('pki'));
  const open: Opening = async (plan) =>
    Stage.open(plan, { scope: scope.inner(), pki, port: await freePort() });
  let next = seed;
  const playNext = async (): Promise<void> => {
    while (tally.operations < operations && tally.findings.length < ENOUGH)
      await play(planOf(next++, pins), open);
  };
  if (kept === undefined) await Promise.all(Array.from({ length: jobs }, playNext));
  else await play(planOf(seed, pins), open);
  console.log(tally.summary());
  if (tally.findings.length > 0) process.exitCode = 1;
}

await runToEnd(main, () => console.log(tally.summary()));
