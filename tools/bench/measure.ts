// One case: all sides on one server, measured by turns and compared in pairs.

import type { Scope } from '../../test/support/run/scope.js';
import type { Case } from './cases.js';
import { type Field, gather } from './contestants.js';

/** The results of one contestant in one case. */
export interface Outcome {
  readonly name: string;
  /** Bytes per second, of each round. */
  readonly bandwidths: readonly number[];
  readonly cpuPerGiB: number | undefined;
  readonly peakMiB: number | undefined;
}

/** A case with its results: nbdfuse first, the peer second. */
export interface Measured {
  readonly one: Case;
  readonly outcomes: readonly Outcome[];
}

/** The median. @throws RangeError when there are none */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the median of nothing');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** first / second, of each round. */
export const ratios = (first: Outcome, second: Outcome): readonly number[] =>
  first.bandwidths.map((value, i) => value / second.bandwidths[i]);

/** The median over the rounds of first / second. */
export const ratio = (first: Outcome, second: Outcome): number => median(ratios(first, second));

/** The outcome of that name, if it took part. */
export const outcomeOf = ({ outcomes }: Measured, name: string): Outcome | undefined =>
  outcomes.find((outcome) => outcome.name === name);

/**
 * Measures a case: a warm-up round, which does not count, then `rounds`, forwards and backwards by turns. So
 * nbdfuse and its peer always run next to each other (other work on the machine affects both), and each comes
 * first in half of the rounds.
 */
export async function measure(
  scope: Scope,
  one: Case,
  field: Field,
  rounds: number,
  seconds: number,
): Promise<Measured> {
  const contestants = await gather(scope, one, field, await one.serve(scope));
  const bandwidths = contestants.map((): number[] => []);
  const costs = contestants.map((): number[] => []);
  for (let i = -1; i < rounds; i++) {
    const forwards = [...contestants.keys()];
    for (const who of i % 2 === 0 ? forwards : forwards.reverse()) {
      const { bandwidth, cpuPerGiB } = await contestants[who].play(seconds);
      if (i < 0) continue;
      bandwidths[who].push(bandwidth);
      if (cpuPerGiB !== undefined) costs[who].push(cpuPerGiB);
    }
  }
  const outcomes: Outcome[] = [];
  for (const [i, contestant] of contestants.entries()) {
    outcomes.push({
      name: contestant.name,
      bandwidths: bandwidths[i],
      cpuPerGiB: costs[i].length === 0 ? undefined : median(costs[i]),
      peakMiB: contestant.peakMiB(),
    });
    await contestant.end();
  }
  return { one, outcomes };
}
