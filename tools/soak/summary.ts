// The results of a soak, as Markdown.

import type { Lane } from './lane.js';
import type { Memory, MemoryVerdict } from './memory.js';

/** A lane with what was seen of it from outside. */
export interface Result {
  readonly lane: Lane;
  readonly memory: Memory;
  /** The first failure. */
  readonly failure: string | undefined;
}

const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

/** The lines of the table: what each is called, and what it says of a lane. */
function rows(
  seconds: number,
): readonly (readonly [name: string, cell: (result: Result) => string | number])[] {
  return [
    ['', ({ lane }) => lane.name],
    ['---', () => '--:'],
    ['server killed', ({ lane }) => lane.faults.kill],
    ['server frozen', ({ lane }) => lane.faults.freeze],
    ['one connection cut', ({ lane }) => lane.faults.cut],
    ['all connections cut', ({ lane }) => lane.faults.cutAll],
    ['connections lost', ({ lane }) => lane.losses.lostConnections],
    ['requests sent again', ({ lane }) => lane.losses.sentAgain],
    ['passes', ({ lane }) => lane.passes],
    ['written', ({ lane }) => gibibytes(lane.written)],
    ['verified', ({ lane }) => gibibytes(lane.verified)],
    [
      'written and read, a second',
      ({ lane }) => `${((lane.written + lane.verified) / 2 ** 20 / seconds).toFixed(1)} MiB`,
    ],
    ['most memory, first five minutes', ({ memory }) => `${memory.warm.toFixed(0)} MiB`],
    ['later', ({ memory }) => (memory.later === 0 ? '' : `${memory.later.toFixed(0)} MiB`)],
  ];
}

/** The verdict on the memory of all: the worst, since one that grows is one too many. */
function memoryVerdict(results: readonly Result[]): MemoryVerdict {
  const verdicts = results.map(({ memory }) => memory.verdict);
  return (
    (['too much', 'growing', 'within its limit'] as const).find((one) => verdicts.includes(one)) ?? 'steady'
  );
}

/** The summary. @param seconds for which the load ran */
export function summary(results: readonly Result[], seconds: number): string {
  const lanes = results.map(({ lane }) => lane);
  const faults = lanes.reduce((sum, lane) => sum + Object.values(lane.faults).reduce((a, b) => a + b, 0), 0);
  const verified = lanes.reduce((sum, lane) => sum + lane.verified, 0);
  const failures = results.flatMap(({ lane, failure }) =>
    failure === undefined ? [] : [`${lane.name}: ${failure}`],
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
