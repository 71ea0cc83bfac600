// What a soak has come to, as Markdown.

import type { Lane } from './lane.js';
import type { Memory } from './memory.js';

/** A lane with what was seen of it from outside. */
export interface Result {
  readonly lane: Lane;
  readonly memory: Memory;
  /** What must not happen, and did. */
  readonly failure: string | undefined;
}

const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

function row(name: string, cells: readonly (string | number)[]): string {
  return `| ${[name, ...cells].join(' | ')} |`;
}

/** The summary. @param seconds for which the load ran */
export function summary(results: readonly Result[], seconds: number): string {
  const lanes = results.map(({ lane }) => lane);
  const faults = lanes.reduce((sum, lane) => sum + Object.values(lane.faults).reduce((a, b) => a + b, 0), 0);
  const verified = lanes.reduce((sum, lane) => sum + lane.verified, 0);
  const failures = results.flatMap(({ lane, failure }) =>
    failure === undefined ? [] : [`${lane.name}: ${failure}`],
  );
  const isSteady = results.every(({ memory }) => memory.steady);
  return [
    `${(seconds / 60).toFixed(1)} minutes, ${faults} faults, ${gibibytes(verified)} verified,`,
    `${failures.length} failures, memory ${isSteady ? 'steady' : 'not steady'}.`,
    '',
    row(
      '',
      lanes.map(({ name }) => name),
    ),
    row(
      '---',
      lanes.map(() => '--:'),
    ),
    row(
      'server killed',
      lanes.map((lane) => lane.faults.kill),
    ),
    row(
      'server frozen',
      lanes.map((lane) => lane.faults.freeze),
    ),
    row(
      'one connection cut',
      lanes.map((lane) => lane.faults.cut),
    ),
    row(
      'all connections cut',
      lanes.map((lane) => lane.faults.cutAll),
    ),
    row(
      'connections lost',
      lanes.map((lane) => lane.told.lostConnections),
    ),
    row(
      'requests sent again',
      lanes.map((lane) => lane.told.sentAgain),
    ),
    row(
      'passes',
      lanes.map((lane) => lane.passes),
    ),
    row(
      'written',
      lanes.map((lane) => gibibytes(lane.written)),
    ),
    row(
      'verified',
      lanes.map((lane) => gibibytes(lane.verified)),
    ),
    row(
      'written and read, a second',
      lanes.map((lane) => `${((lane.written + lane.verified) / 2 ** 20 / seconds).toFixed(1)} MiB`),
    ),
    row(
      'memory when warm',
      results.map(({ memory }) => `${memory.warm.toFixed(0)} MiB`),
    ),
    row(
      'most memory later',
      results.map(({ memory }) => `${memory.later.toFixed(0)} MiB`),
    ),
    '',
    ...failures.map((failure) => `- ${failure}`),
  ].join('\n');
}
