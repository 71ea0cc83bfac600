// `npm run bench`: measures nbdfuse beside C nbdfuse and the fuse-native backend.
//
// Options after `--`: --quick (short rounds, no fuse-native), --case PREFIX (repeatable), --rounds N,
// --list, --ours "COMMAND" (another binary in our place), --write (docs/benchmarks).

import { parseArgs } from 'node:util';
import { CASES } from './cases.js';
import { type Measured, measure } from './measure.js';
import { endAll } from './processes.js';
import { HEAD, row, startTable, write } from './report.js';
import { sides } from './sides.js';
import { measureStart, type StartUp } from './start-up.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    case: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string' },
    list: { type: 'boolean', default: false },
    ours: { type: 'string' },
    write: { type: 'boolean', default: false },
  },
});

async function main(): Promise<void> {
  const wanted = CASES.filter(
    ({ name }) => values.case.length === 0 || values.case.some((prefix) => name.startsWith(prefix)),
  );
  if (values.list) {
    for (const { name, text } of CASES) console.log(`${name.padEnd(28)} ${text}`);
    return;
  }
  const { ours, peer, native } = sides(values.ours);
  const all = values.quick ? [ours, peer] : [ours, peer, native];
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 5));
  const seconds = values.quick ? 1 : 2;
  const done: Measured[] = [];
  console.log(HEAD);
  for (const one of wanted) {
    // The case of a normal user is about the kernel's limits, which fuse-native shares.
    const measured = await measure(one, one.asNobody === true ? [ours, peer] : all, rounds, seconds);
    endAll();
    done.push(measured);
    console.log(row(measured));
  }
  let starts: StartUp[] = [];
  if (values.case.length === 0 || values.case.includes('start')) {
    starts = await measureStart([ours, peer], rounds);
    console.log(`\n${startTable(starts)}`);
  }
  if (values.write) write(done, starts, ['npm run bench --', ...process.argv.slice(2)].join(' '));
}

try {
  await main();
} finally {
  endAll();
}
