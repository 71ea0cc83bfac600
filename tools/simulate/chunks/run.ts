// The command line of the simulator of the chunk server: `--seeds N` or `--seconds N`, or `--seed S` for one history.
// See docs/internals/simulation.md.

import { parseArgs } from 'node:util';
import { play, type Result } from './history.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string' },
    from: { type: 'string' },
  },
});

/** Shows the history of a seed. */
async function show(seed: number): Promise<Result> {
  const log: string[] = [];
  const result = await play(seed, log);
  console.log(log.join('\n'));
  const { violation, steps, digest } = result;
  if (violation === undefined)
    console.log(`seed ${seed}: nothing found, ${steps} steps, digest ${digest >>> 0}`);
  else console.log(`seed ${seed}: ${violation.rule}: ${violation.message}`);
  return result;
}

/** The first seed. Runs with a time limit play new histories each time: the first seed changes 100 times a second. */
function firstSeed(): number {
  if (values.from !== undefined) return Number(values.from);
  return values.seconds === undefined ? 1 : Math.floor(Date.now() / 10) % 2 ** 31;
}

/** Plays seeds until there are enough of them, the time is over, or a history breaks a rule. */
async function search(): Promise<void> {
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1000;
  const count = Number(values.seeds ?? (values.seconds === undefined ? 200 : Number.POSITIVE_INFINITY));
  const time = Number(values.seconds ?? Number.POSITIVE_INFINITY);
  const first = firstSeed();
  const counts = new Map<string, number>();
  let [seed, steps] = [first, 0];
  console.log(`the first seed is ${first}`);
  while (seed < first + count && seconds() < time) {
    const result = await play(seed++);
    steps += result.steps;
    for (const [what, more] of result.counts) counts.set(what, (counts.get(what) ?? 0) + more);
    if (result.violation === undefined) continue;
    process.exitCode = 1;
    console.log(`seed ${seed - 1}: ${result.violation.rule}: ${result.violation.message}`);
    console.log(`(replay with --seed ${seed - 1})`);
    break;
  }
  for (const [what, number] of [...counts].sort()) console.log(`${String(number).padStart(9)}  ${what}`);
  const took = seconds();
  console.log(
    `${seed - first} seeds, ${steps} steps, ${Math.round(steps / took)} steps a second, ${took.toFixed(1)} s`,
  );
}

if (values.seed === undefined) await search();
else if ((await show(Number(values.seed))).violation !== undefined) process.exitCode = 1;
