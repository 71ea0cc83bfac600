// The simulator's command line: `--seeds N`, or `--seed S` for one history. See docs/simulation.md.

import { parseArgs } from 'node:util';
import { Coverage } from './coverage.js';
import { generate, replay } from './history.js';
import { makeProfile } from './profile.js';
import { shrink } from './shrink.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    seed: { type: 'string' },
    from: { type: 'string', default: '1' },
    steps: { type: 'string', default: '600' },
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
const ignored = words(values.ignore);

/** Shows what a seed has found. */
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

function search(): void {
  const coverage = new Coverage();
  const rules = new Map<string, number[]>();
  const began = performance.now();
  const first = Number(values.from);
  let steps = 0;
  let seed = first;
  for (; seed < first + Number(values.seeds); seed++) {
    const result = generate(makeProfile(seed, limits), most);
    coverage.add(result.coverage);
    steps += result.steps.length;
    if (result.violation === undefined || ignored.includes(result.violation.rule)) continue;
    const seeds = rules.get(result.violation.rule) ?? [];
    rules.set(result.violation.rule, [...seeds, seed]);
    if (values['keep-going'])
      console.log(`seed ${seed}: ${result.violation.rule}: ${result.violation.message.split('\n')[0]}`);
    if (!values['keep-going']) {
      show(seed);
      process.exitCode = 1;
      seed++;
      break;
    }
  }
  const seconds = (performance.now() - began) / 1000;
  console.log(coverage.lines().join('\n'));
  for (const [rule, seeds] of rules)
    console.log(`${rule}: ${seeds.length} seeds: ${seeds.slice(0, 20).join(' ')}`);
  if (rules.size > 0) process.exitCode = 1;
  console.log(
    `${seed - first} seeds, ${steps} steps, ${Math.round(steps / seconds)} steps a second, ${seconds.toFixed(1)} s, ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB at most`,
  );
}

if (values.seed !== undefined) show(Number(values.seed));
else search();
