// One case, from its first operation to its last comparison.

import { Random } from '../simulate/random.js';
import { numbersOf, type Place } from './kept.js';
import type { Plan } from './plan.js';
import type { Stage } from './stage.js';

/** Operations of an actor between two comparisons of the whole file. */
const ACT = 500;

/** How long a case is. */
export interface Extent {
  /** Operations of each actor. */
  readonly length: number;
  /** The played operations, if not all. Acts without a played operation have no comparison and no remount. */
  readonly kept?: readonly Place[];
}

export const actorsOf = (plan: Plan): number => (plan.actors === 'mixed' ? 1 : 3);

/** See the file's head. @param played called with the number of further operations that were played @throws Finding */
export async function playCase(
  stage: Stage,
  plan: Plan,
  { length, kept }: Extent,
  played: (operations: number) => void,
): Promise<void> {
  const acts = new Random(plan.seed);
  const actors = [...Array(actorsOf(plan)).keys()];
  for (let done = 0; done < length; done += ACT) {
    const count = Math.min(ACT, length - done);
    const numbers = kept && actors.map((actor) => numbersOf(kept, actor, done, count));
    await stage.play(count, numbers);
    const more = numbers?.flat().length ?? count * actors.length;
    played(more);
    // Always drawn, so that an omission changes nothing else.
    if (acts.chance(0.3) && more > 0) await stage.compare();
    if (!acts.chance(0.3)) continue;
    if (more > 0) await stage.remount();
    else await stage.close();
  }
  await stage.compare();
  await stage.finish();
}
