// One case, from its first operation to its last look.

import { Random } from '../simulate/random.js';
import { numbersOf, type Place } from './kept.js';
import type { Plan } from './plan.js';
import type { Stage } from './stage.js';

/** Operations of an actor between two looks at the whole. */
const ACT = 500;

/** How long a case is. */
export interface Extent {
  /** Operations of each actor. */
  readonly length: number;
  /** Those that are played, if not all; the acts of which none is played have no looks, nor mounting again. */
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
    // Drawn in any case: what is left out changes nothing else.
    if (acts.chance(0.3) && more > 0) await stage.compare();
    if (!acts.chance(0.3)) continue;
    if (more > 0) await stage.remount();
    else await stage.close();
  }
  await stage.compare();
  await stage.finish();
}
