// The simulator's command line: `--seeds N` or `--seconds N`, or `--seed S` for one history.
// See docs/internals/simulation.md.

import { parseArgs } from 'node:util';
import { assertThoroughly } from '../../src/worker/memory/assert.js';
import { Coverage } from './coverage.js';
import { generate, type Result, replay } from './history.js';
import { FAULTS, makeProfile } from './profile.js';
import { shrink } from './shrink.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string' },
    from: { type: 'string' },
    steps: { type: 'string', default: '600' },
    with: { type: 'string', default: '' },
    without: { type: 'string', default: '' },
    only: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
    ignore: { type: 'string', default: '' },
    'no-shrink': { type: 'boolean', default: false },
  },
});

const words = (text: string): string[] => text.split(',').filter((word) => word !== '');
const limits = {
  without: words(values.without),
  only: values.only === undefined ? undefined : words(values.only),
};
const most = Number(values.steps);
const needed = FAULTS.filter((fault) => words(values.with).includes(fault));
const ignored = words(values.ignore);

/** Shows the finding of a seed. */
function show(seed: number): void {
  const profile = makeProfile(seed, limits);
  const found = generate(profile, most);
  if (found.violation === undefined) {
    const log: string[] = [];
    if (values.seed !== undefined) generate(profile, most, log);
    console.log(log.join('\n'));
    console.log(`seed ${seed}: nothing found, ${found.steps.length} steps, digest ${found.digest >>> 0}`);
    return;
  }
  const { rule, sign } = found.violation;
  const steps = values['no-shrink'] ? found.steps : shrink(profile, found.steps, sign);
  const log: string[] = [];
  const again = replay(profile, steps, log);
  console.log(log.join('\n'));
  console.log(`seed ${seed}: ${rule}: ${again.violation?.message ?? found.violation.message}`);
  console.log(`(${found.steps.length} steps, ${steps.length} when shrunk; replay with --seed ${seed})`);
}

/**
 * The first seed. Runs with a time limit play new histories each time: the first seed changes 100 times a
 * second.
 */
function firstSeed(): number {
  if (values.from !== undefined) return Number(values.from);
  return values.seconds === undefined ? 1 : Math.floor(Date.now() / 10) % 2 ** 31;
}

/** Runs seeds until there are enough of them, or the time is over. */
function search(): void {
  const coverage = new Coverage();
  const rules = new Map<string, number[]>();
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1000;
  const count = Number(values.seeds ?? (values.seconds === undefined ? 1000 : Number.POSITIVE_INFINITY));
  const time = Number(values.seconds ?? Number.POSITIVE_INFINITY);
  const first = firstSeed();
  let steps = 0;
  let seed = first;
  console.log(`the first seed is ${first}`);
  while (seed < first + count && seconds() < time) {
    const profile = makeProfile(seed++, limits);
    if (needed.some((fault) => !profile.faults.has(fault))) continue;
    const result = generate(profile, most);
    coverage.add(result.coverage);
    steps += result.steps.length;
    if (!hasFailed(result, profile.seed, rules) || values['keep-going']) continue;
    show(profile.seed);
    break;
  }
  const took = seconds();
  console.log(coverage.lines().join('\n'));
  for (const [rule, seeds] of rules)
    console.log(`${rule}: ${seeds.length} seeds: ${seeds.slice(0, 20).join(' ')}`);
  console.log(
    `${seed - first} seeds, ${steps} steps, ${Math.round(steps / took)} steps a second, ${took.toFixed(1)} s, ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB at most`,
  );
}

/** Whether a seed has broken a rule; records the rule. */
function hasFailed({ violation }: Result, seed: number, rules: Map<string, number[]>): boolean {
  if (violation === undefined || ignored.includes(violation.rule)) return false;
  rules.set(violation.rule, [...(rules.get(violation.rule) ?? []), seed]);
  console.log(`seed ${seed}: ${violation.rule}: ${violation.message.split('\n')[0]}`);
  process.exitCode = 1;
  return true;
}

assertThoroughly();
if (values.seed !== undefined) show(Number(values.seed));
else search();
