// `npm run bench`: measures nbdfuse beside C nbdfuse, the fuse-native backend, qemu-storage-daemon's FUSE
// export and the server itself. Exits with 1 when a case could not be measured; a bar that is not
// reached is shown in the table and is no failure.

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Scope } from '../../test/support/run/scope.js';
import { runToEnd } from '../run-to-end.js';
import { CASES, type Case } from './cases.js';
import { curveChart, ratioChart } from './chart.js';
import type { Field } from './contestants.js';
import { measureCopy } from './copy.js';
import { measureGarbage } from './garbage.js';
import { LAZY_CASES } from './lazy/cases.js';
import { ImageFolder } from './lazy/images.js';
import type { LazyField } from './lazy/lazy-case.js';
import { LAZY_HEAD, type LazyRow, lazyRow } from './lazy/table.js';
import { measureLibrary } from './library/reads.js';
import { type Measured, measure } from './measure.js';
import {
  circumstances,
  copyTable,
  disturbance,
  garbageTable,
  head,
  libraryTable,
  memoryTable,
  row,
  saturationTable,
  startTable,
} from './report.js';
import { nativeSide, otherVersion, oursSide, PEER, STORAGE_DAEMON, sideOfNode } from './sides.js';
import { measureMemory, measureStart } from './start-up.js';

const HELP = `npm run bench -- [OPTIONS]
  --quick        1 s a side and round, 3 rounds; no fuse-native, the peer copies a small sparse disk
  --case NAME    only the cases whose names begin so; can be repeated; lazy: those of lazy images
  --rounds N     rounds that count (5)
  --ours CMD     another command in place of node bin/nbdfuse
  --peer CMD     another version of C nbdfuse beside the installed one; can be repeated
  --qemu CMD     another version of qemu-storage-daemon beside the installed one; can be repeated
  --node PATH    another node, for the case start; can be repeated
  --before CMD   an nbdfuse of before, for the case lazy-unused
  --images DIR   keep the images of the lazy cases there, for later runs
  --size MIB     size of these images, decoded (1024)
  --write        write the tables and charts into docs/internals/
  --list         show the names`;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    case: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string' },
    list: { type: 'boolean', default: false },
    ours: { type: 'string' },
    peer: { type: 'string', multiple: true, default: [] },
    qemu: { type: 'string', multiple: true, default: [] },
    node: { type: 'string', multiple: true, default: [] },
    before: { type: 'string' },
    images: { type: 'string' },
    size: { type: 'string', default: '1024' },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const quick = options.quick;
const rounds = Number(options.rounds ?? (quick ? 3 : 5));
const seconds = quick ? 1 : 2;
const mebibytes = Number(options.size);
const peers = options.peer.map((command) => otherVersion(PEER, command));
const daemons = options.qemu.map((command) => otherVersion(STORAGE_DAEMON, command));
const others = [...peers, ...daemons];
const field: Field = {
  ours: oursSide(options.ours),
  native: quick ? undefined : nativeSide(options.ours),
  peers,
  daemons: [STORAGE_DAEMON, ...daemons],
};
const pair = [field.ours, PEER];

/** Measurements without fio: each has a separate table. */
const TABLES: readonly { name: string; text: string; make: (scope: Scope) => Promise<string> }[] = [
  {
    name: 'sparse-copy',
    text: 'cp --sparse=always of a disk that is nearly all holes',
    // The peer reads every hole: 100 GiB take it minutes.
    make: async (scope) =>
      copyTable([
        ...(await measureCopy(scope, quick ? pair : [], 8)),
        ...(await measureCopy(scope, quick ? [field.ours] : pair, 100)),
      ]),
  },
  {
    name: 'start',
    text: 'start to ready, and resident memory',
    make: async (scope) => {
      const sides = [...pair, ...peers, ...options.node.map(sideOfNode)];
      return startTable(await measureStart(scope, sides, Math.max(rounds, 10)));
    },
  },
  {
    name: 'memory',
    text: 'memory with one and with many mounts',
    make: async (scope) =>
      memoryTable([...(await measureMemory(scope, pair, 1)), ...(await measureMemory(scope, pair, 50))]),
  },
  {
    name: 'garbage',
    text: 'what a million requests leave to the garbage collector',
    make: async (scope) => garbageTable(await measureGarbage(scope, field.ours)),
  },
  {
    name: 'library',
    text: "NbdClient beside libnbd's Python, random reads on a Unix socket",
    make: async (scope) => libraryTable(await measureLibrary(scope, Math.max(rounds, quick ? 7 : 15))),
  },
  {
    name: 'saturation',
    text: 'where one worker saturates on more cores, by simulation',
    make: async () => saturationTable(),
  },
];

const NAMED: readonly { readonly name: string; readonly text: string }[] = [
  ...CASES,
  ...TABLES,
  ...LAZY_CASES,
];

const isWanted = ({ name }: { readonly name: string }): boolean =>
  options.case.length === 0 ||
  // Cases of a remote server were named far1-…, far10-….
  options.case.some((prefix) => name.startsWith(prefix.replace(/^far(?=\d|$)/, 'remote')));

/** Runs a measurement that may fail, in a separate scope; the others continue. */
async function attempt<T>(
  outer: Scope,
  name: string,
  action: (scope: Scope) => Promise<T>,
): Promise<T | undefined> {
  const scope = outer.inner();
  try {
    return await action(scope);
  } catch (error) {
    process.exitCode = 1;
    console.error(`bench: ${name}: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  } finally {
    scope.endNow();
  }
}

async function measureCases(outer: Scope, cases: readonly Case[]): Promise<readonly Measured[]> {
  const done: Measured[] = [];
  if (cases.length > 0) console.log(head(others));
  for (const one of cases) {
    const measured = await attempt(outer, one.name, (scope) => measure(scope, one, field, rounds, seconds));
    if (measured === undefined) continue;
    done.push(measured);
    console.log(row(measured, others));
  }
  return done;
}

async function measureLazy(outer: Scope): Promise<readonly LazyRow[]> {
  const cases = LAZY_CASES.filter(isWanted);
  if (cases.length === 0) return [];
  const lazyField: LazyField = {
    ours: field.ours,
    before: options.before === undefined ? undefined : oursSide(options.before),
    images: new ImageFolder(outer, options.images),
    mebibytes,
    rounds,
  };
  console.log(`\n${LAZY_HEAD}`);
  const all: LazyRow[] = [];
  for (const one of cases) {
    const rows = (await attempt(outer, one.name, (scope) => one.measure(scope, lazyField))) ?? [];
    for (const row of rows) console.log(lazyRow(row));
    all.push(...rows);
  }
  return all;
}

/** The page with the results. */
const PAGE = 'docs/internals/results.md';

/** Replaces the text between a section's markers; the rest of the page comes from other measurements. */
function replaceResults(section: 'bench' | 'bench-lazy', parts: readonly string[]): void {
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [`<!-- ${section} -->`, `<!-- /${section} -->`];
  const [first, last] = [page.indexOf(begin), page.indexOf(end)];
  if (first < 0 || last < first) throw new Error(`${PAGE} lacks the markers ${begin} and ${end}`);
  const text = parts.filter((part) => part !== '').join('\n\n');
  writeFileSync(PAGE, `${page.slice(0, first)}${begin}\n\n${text}\n\n${page.slice(last)}`);
}

function commandLine(): string {
  const words = process.argv.slice(2).map((word) => (/[^\w./=:-]/.test(word) ? `'${word}'` : word));
  return `To repeat it: \`${['npm run bench --', ...words].join(' ')}\``;
}

const today = (): string => new Date().toISOString().slice(0, 10);

function write(all: readonly Measured[], tables: readonly string[]): void {
  const curve = all.filter(({ one }) => one.curve !== undefined);
  if (all.length > 0) writeFileSync('docs/internals/ratios.svg', ratioChart(all));
  if (curve.length > 0) writeFileSync('docs/internals/jobs.svg', curveChart(curve));
  replaceResults('bench', [
    `${today()}. All sides took turns on one server, after one warm-up round. Each ratio is the median of ${rounds} rounds. The figure beside a bar says in how many rounds nbdfuse reached it. Other work ran on the machine, so compare the ratios and not the absolute figures. "Of the limit" is the ratio to fio's NBD engine on the server itself.`,
    circumstances(others),
    commandLine(),
    all.length === 0 ? '' : [head(others), ...all.map((one) => row(one, others))].join('\n'),
    ...tables,
    all.length === 0 ? '' : '![Ratio of each case](ratios.svg)',
    curve.length === 0 ? '' : '![Throughput by jobs](jobs.svg)',
  ]);
}

function writeLazy(rows: readonly LazyRow[]): void {
  replaceResults('bench-lazy', [
    `${today()}. All sides took turns, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}; figures are medians. Images of ${mebibytes} MiB; the web server answers each request 20 ms late (50 ms for the walk) and does not limit the bandwidth. C nbdfuse mounts with \`--command nbdkit -s curl --filter=…\`. A first pass, visit, walk or boot counts from the command that mounts to the last byte; every byte is compared with the raw image. The figure beside a bar says in how many rounds nbdfuse reached it.`,
    circumstances(others),
    commandLine(),
    [LAZY_HEAD, ...rows.map(lazyRow)].join('\n'),
  ]);
}

async function main(scope: Scope): Promise<void> {
  if (options.help) return console.log(HELP);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a number from 1');
  if (!Number.isInteger(mebibytes) || mebibytes < 64) throw new Error('--size takes a number from 64');
  if (!NAMED.some(isWanted)) throw new Error('no case has such a name: --list shows them');
  if (options.list) {
    for (const { name, text } of NAMED.filter(isWanted)) {
      console.log(`${name.padEnd(28)} ${text}`);
    }
    return;
  }
  const warning = disturbance();
  if (warning !== undefined) console.error(warning);
  const done = await measureCases(scope, CASES.filter(isWanted));
  const tables: string[] = [];
  for (const { name, make } of TABLES.filter(isWanted)) {
    const table = await attempt(scope, name, make);
    if (table === undefined) continue;
    tables.push(table);
    console.log(`\n${table}`);
  }
  const rows = await measureLazy(scope);
  if (!options.write) return;
  if (done.length + tables.length > 0) write(done, tables);
  if (rows.length > 0) writeLazy(rows);
}

await runToEnd((scope) =>
  main(scope).catch((error: unknown) => {
    process.exitCode = 1;
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  }),
);
