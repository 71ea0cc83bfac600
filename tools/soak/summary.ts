// The results of a soak, as Markdown.

import type { Memory, MemoryVerdict } from './memory.js';
import type { SoakedMount } from './soaked-mount.js';

/** A mount with its measurements. */
export interface Result {
  readonly mount: SoakedMount;
  readonly memory: Memory;
  /** The first failure. */
  readonly failure: string | undefined;
}

const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

/** The rows of the table: the title of each, and its value for a mount. */
function rows(
  seconds: number,
): readonly (readonly [name: string, cell: (result: Result) => string | number])[] {
  return [
    ['', ({ mount }) => mount.name],
    ['---', () => '--:'],
    ['server killed', ({ mount }) => mount.faults.kill],
    ['server frozen', ({ mount }) => mount.faults.freeze],
    ['one connection cut', ({ mount }) => mount.faults.cut],
    ['all connections cut', ({ mount }) => mount.faults.cutAll],
    ['connections lost', ({ mount }) => mount.losses.lostConnections],
    ['requests sent again', ({ mount }) => mount.losses.retriedRequests],
    ['passes', ({ mount }) => mount.passes],
    ['written', ({ mount }) => gibibytes(mount.written)],
    ['verified', ({ mount }) => gibibytes(mount.verified)],
    [
      'written and read, a second',
      ({ mount }) => `${((mount.written + mount.verified) / 2 ** 20 / seconds).toFixed(1)} MiB`,
    ],
    ['most memory, first five minutes', ({ memory }) => `${memory.warm.toFixed(0)} MiB`],
    ['later', ({ memory }) => (memory.later === 0 ? '' : `${memory.later.toFixed(0)} MiB`)],
  ];
}

/** The verdict on the memory of all mounts: the worst one. */
function memoryVerdict(results: readonly Result[]): MemoryVerdict {
  const verdicts = results.map(({ memory }) => memory.verdict);
  return (
    (['too much', 'growing', 'within its limit'] as const).find((one) => verdicts.includes(one)) ?? 'steady'
  );
}

/** The summary. @param seconds for which the load ran */
export function summary(results: readonly Result[], seconds: number): string {
  const mounts = results.map(({ mount }) => mount);
  const faults = mounts.reduce(
    (sum, mount) => sum + Object.values(mount.faults).reduce((a, b) => a + b, 0),
    0,
  );
  const verified = mounts.reduce((sum, mount) => sum + mount.verified, 0);
  const failures = results.flatMap(({ mount, failure }) =>
    failure === undefined ? [] : [`${mount.name}: ${failure}`],
  );
  return [
    `${(seconds / 60).toFixed(1)} minutes, ${faults} faults, ${gibibytes(verified)} verified,`,
    `${failures.length} failures, memory ${memoryVerdict(results)}.`,
    '',
    ...rows(seconds).map(([name, cell]) => `| ${[name, ...results.map(cell)].join(' | ')} |`),
    '',
    ...failures.map((failure) => `- ${failure}`),
  ].join('\n');
}
