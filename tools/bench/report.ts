// The tables, as lines of Markdown. Pure, except circumstances(), which asks each program for its version.

import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';
import { LIMIT } from './contestants.js';
import type { Copied } from './copy.js';
import type { Garbage } from './garbage.js';
import type { LibraryReads } from './library/reads.js';
import { type Measured, median, outcomeOf, ratio, ratios } from './measure.js';
import { CORES, simulate, WORKERS } from './saturation.js';
import { PEER, type Side, STORAGE_DAEMON } from './sides.js';
import type { Memory, StartUp } from './start-up.js';

/** Upper limits of the start time and of the memory of a mount. */
const START_BARS = { milliseconds: 120, peakMiB: 80 };

const mib = (bytesPerSecond: number): string => {
  const value = bytesPerSecond / 2 ** 20;
  return value.toFixed(value < 10 ? 2 : 0);
};
const factor = (value: number): string => value.toFixed(value < 10 ? 2 : 0);
const verdict = (bar: string, reached: boolean): string => `${bar} ${reached ? '✓' : '✗'}`;
/** The number of rounds that reached a bar: if it is neither all nor none, noise may have decided. */
const agreeing = (each: readonly number[], bar: number): string =>
  `(${each.filter((value) => value >= bar).length} of ${each.length})`;
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

/** The head of the table of cases. @param others other versions of the rivals: each has a column */
export function head(others: readonly Side[]): string {
  const columns = [
    'case',
    'nbdfuse MiB/s',
    'C nbdfuse MiB/s',
    'ratio (lowest–highest)',
    'bar',
    'fuse-native / C',
    'nbdfuse / qemu',
    ...others.map(({ name }) => `nbdfuse / ${name}`),
    'of the limit',
    'CPU s/GiB, ours / C',
    'peak MiB, ours / C',
  ];
  return [line(columns), `|${columns.map(() => '---|').join('')}`].join('\n');
}

/** One line of the table of cases. @param others as of `head` */
export function row(measured: Measured, others: readonly Side[]): string {
  const { one, outcomes } = measured;
  const [ours, peer] = outcomes;
  const reached = ratio(ours, peer);
  const each = ratios(ours, peer);
  const against = (name: string, compare: (other: (typeof outcomes)[number]) => string): string => {
    const other = outcomeOf(measured, name);
    return other === undefined ? '' : compare(other);
  };
  const cpu = `${(ours.cpuPerGiB ?? 0).toFixed(2)} / ${(peer.cpuPerGiB ?? 0).toFixed(2)}`;
  const cpuReached = (ours.cpuPerGiB ?? 0) <= (one.cpuBar ?? 0) * (peer.cpuPerGiB ?? 0);
  return line([
    one.text,
    mib(median(ours.bandwidths)),
    mib(median(peer.bandwidths)),
    `**${factor(reached)}** (${factor(Math.min(...each))}–${factor(Math.max(...each))})`,
    one.bar === undefined ? '' : `${verdict(`≥ ${one.bar}`, reached >= one.bar)} ${agreeing(each, one.bar)}`,
    against('fuse-native', (native) => factor(ratio(native, peer))),
    ...[STORAGE_DAEMON, ...others].map(({ name }) => against(name, (other) => factor(ratio(ours, other)))),
    against(LIMIT, (limit) => `${(100 * ratio(ours, limit)).toFixed(0)} %`),
    one.cpuBar === undefined ? cpu : `${cpu}, ${verdict(`≤ ${one.cpuBar} × C`, cpuReached)}`,
    `${(ours.peakMiB ?? 0).toFixed(0)} / ${(peer.peakMiB ?? 0).toFixed(0)}`,
  ]);
}

/** The lines about starting; the first side has the bars. */
export function startTable(results: readonly StartUp[]): string {
  const lines = results.map(({ side, milliseconds, peakMiB }, i) => {
    const within = (value: number, bar: number): string =>
      i === 0 ? `${value.toFixed(0)} (${verdict(`≤ ${bar}`, value <= bar)})` : value.toFixed(0);
    return line([side, within(milliseconds, START_BARS.milliseconds), within(peakMiB, START_BARS.peakMiB)]);
  });
  return ['| side | start to ready, ms | peak RSS, MiB |', '|---|---|---|', ...lines].join('\n');
}

/** The lines about memory. */
export function memoryTable(results: readonly Memory[]): string {
  const head = ['| side | mounts | total PSS, MiB | sum of peak RSS, MiB |', '|---|---|---|---|'];
  const lines = results.map(({ side, mounts, proportionalMiB, peakMiB }) =>
    line([side, String(mounts), proportionalMiB.toFixed(0), peakMiB.toFixed(0)]),
  );
  return [...head, ...lines].join('\n');
}

/** The lines about copying sparse disks. */
export function copyTable(results: readonly Copied[]): string {
  const head = [
    '| `cp --sparse=always` of a disk with 100 MiB of data | GiB of the disk | seconds |',
    '|---|---|---|',
  ];
  return [
    ...head,
    ...results.map(({ side, gibibytes, seconds }) => line([side, String(gibibytes), seconds.toFixed(2)])),
  ].join('\n');
}

/** The lines about the garbage collector. */
export function garbageTable(results: readonly Garbage[]): string {
  const head = [
    '| 4k direct, 8 jobs | requests | collections | surviving MiB, early / at the end | pause in ms, median / longest |',
    '|---|---|---|---|---|',
  ];
  const lines = results.map((one) =>
    line([
      one.text,
      String(one.requests),
      String(one.collections),
      `${one.early} / ${one.late}`,
      `${one.medianPause} / ${one.longestPause}`,
    ]),
  );
  return [...head, ...lines].join('\n');
}

/** The lines about the library. */
export function libraryTable(results: readonly LibraryReads[]): string {
  const lines = results.map(({ text, bar, ours, python }) => {
    const each = ours.map((value, i) => value / python[i]);
    const reached = median(each);
    return line([
      text,
      mib(median(python)),
      mib(median(ours)),
      `**${factor(reached)}** (${factor(Math.min(...each))}–${factor(Math.max(...each))})`,
      `${verdict(`≥ ${bar}`, reached >= bar)} ${agreeing(each, bar)}`,
    ]);
  });
  const names = ["random reads, libnbd's Python over one connection", 'Python MiB/s', 'NbdClient MiB/s'];
  return [line([...names, 'ratio (lowest–highest)', 'bar']), '|---|---|---|---|---|', ...lines].join('\n');
}

/** The lines of the simulation. */
export function saturationTable(): string {
  const lines = CORES.map((cores) =>
    line([String(cores), ...WORKERS.map((workers) => `${(simulate(cores, workers) / 1000).toFixed(0)}k`)]),
  );
  const head = line([
    'cores (simulated: 4k random reads a second)',
    ...WORKERS.map((n) => `${n} ${n === 1 ? 'thread' : 'threads'}`),
  ]);
  return [head, `|---|${WORKERS.map(() => '---|').join('')}`, ...lines].join('\n');
}

function version(argv: readonly string[]): string {
  try {
    return execFileSync(argv[0], argv.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .split('\n')[0]
      .trim();
  } catch {
    return `${argv[0]}: not there`;
  }
}

const load = (): string =>
  loadavg()
    .map((value) => value.toFixed(1))
    .join(', ');

/** A warning before the run if other work on the machine will disturb it. */
export function disturbance(): string | undefined {
  if (loadavg()[0] < cpus().length / 2) return undefined;
  return `bench: the machine has other work (load ${load()}): ratios will vary, trust none whose rounds disagree`;
}

/** Machine and versions, one per line. @param others other versions of the rivals */
export function circumstances(others: readonly Side[]): string {
  const rivals = [PEER, STORAGE_DAEMON, ...others].map(({ command }) => command);
  const programs = [...rivals, ['nbdkit'], ['qemu-nbd'], ['fio'], ['cp']];
  return [
    `- ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), Linux ${release()}, Node ${process.version}`,
    `- ${programs.map((program) => version([...program, '--version'])).join(', ')}`,
    `- load average at the end, over 1, 5 and 15 minutes (the run alone makes 2 to 3): ${load()}`,
    `- nbdfuse: ${version(['git', 'describe', '--always', '--dirty'])}`,
  ].join('\n');
}
