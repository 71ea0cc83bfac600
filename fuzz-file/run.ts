// `npm run fuzz:file -- --operations N --seed S`: random operations on a mounted file and the same on a plain
// one, case after case, until so many were played. Each case is of one seed, S, S + 1 and so on, which
// chooses configuration and operations; `--case cache=none,actors=direct` pins parts of it.
//
// Prints a summary in Markdown. Exits with 1 when anything differed; what was found is kept in a folder.

import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { endAll, endAtSignals, folder, pause } from '../bench/processes.js';
import { freePort, makeCertificates } from '../bench/servers.js';
import { describe, type Plan, parsePins, planOf } from './plan.js';
import { Random } from './random.js';
import { Finding, Stage } from './stage.js';
import { Tally } from './tally.js';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    /** Operations of each actor in a case. */
    length: { type: 'string', default: '3000' },
    /** Cases side by side. */
    jobs: { type: 'string', default: '2' },
    case: { type: 'string', default: '' },
  },
});
const number = (name: 'operations' | 'seed' | 'length' | 'jobs'): number => {
  const value = Number(values[name]);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`--${name} takes a number`);
  return value;
};
const [operations, seed, length, jobs] = [
  number('operations'),
  number('seed'),
  number('length'),
  number('jobs'),
];
const pins = parsePins(values.case);

/** Operations of an actor between two looks at the whole. */
const ACT = 500;

/** Where the logs and disks of what was found are kept. */
const FOUND = fileURLToPath(new URL('../../found', import.meta.url));

/** Findings after which no new case begins. */
const ENOUGH = 3;

/** Lines of the logs that are shown of what was found. */
const LINES = 15;

let root = '';
let pki = '';
const tally = new Tally();

/** Plays one case. Never rejects for what it finds. */
async function play(plan: Plan): Promise<void> {
  const place = join(root, `case${plan.seed}`);
  mkdirSync(place);
  const stage = await Stage.open(plan, { folder: place, pki, port: await freePort() });
  const startedAt = performance.now();
  const actors = plan.actors === 'mixed' ? 1 : 3;
  const acts = new Random(plan.seed);
  try {
    for (let done = 0; done < length; done += ACT) {
      await stage.play(Math.min(ACT, length - done));
      tally.played(plan, actors * Math.min(ACT, length - done));
      if (acts.chance(0.3)) await stage.compare();
      if (acts.chance(0.3)) await stage.remount();
    }
    await stage.compare();
    await stage.finish();
    rmSync(place, { recursive: true });
  } catch (error) {
    await reportFinding(plan, stage, place, error);
  }
  tally.ended(plan, stage.faults.counts);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const { cut, kill, freeze } = stage.faults.counts;
  console.error(
    `seed ${plan.seed}: ${describe(plan)}: ${cut} cuts, ${kill} kills, ${freeze} freezes, ${seconds} s`,
  );
}

async function reportFinding(plan: Plan, stage: Stage, place: string, error: unknown): Promise<void> {
  if (!(error instanceof Finding)) throw error;
  tally.found(plan, error.message);
  const kept = join(FOUND, `seed${plan.seed}`);
  console.error(`seed ${plan.seed}: ${error.message}\n${stage.lastWords(LINES)}\nkept in ${kept}`);
  await stage.abandon();
  mkdirSync(kept, { recursive: true });
  const names = readdirSync(place).filter((name) => /\.(log|raw)$/.test(name));
  for (const name of names) copyFileSync(join(place, name), join(kept, name));
  rmSync(place, { recursive: true });
}

async function main(): Promise<void> {
  root = folder();
  pki = join(root, 'pki');
  mkdirSync(pki);
  makeCertificates(pki);
  let next = seed;
  const lane = async (): Promise<void> => {
    while (tally.operations < operations && tally.findings.length < ENOUGH) await play(planOf(next++, pins));
  };
  await Promise.all(Array.from({ length: jobs }, lane));
  console.log(tally.summary());
  if (tally.findings.length > 0) process.exitCode = 1;
}

endAtSignals(() => console.log(tally.summary()));
try {
  await main();
} finally {
  endAll();
  // What is killed is unmounted by the kernel only when it is gone.
  await pause(100);
}
process.exit();
