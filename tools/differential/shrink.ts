// Shrinks a finding: plays the case again with fewer operations, as long as it still fails.
//
// Used by run.ts. The moments of faults are not part of a list, so a list that fails rarely counts as one
// that does not fail. A case that hangs is not shrunk: each try would take two minutes.

import { actorsOf, type Extent, playCase } from './case.js';
import type { Place } from './kept.js';
import { minimise } from './minimise.js';
import type { Plan } from './plan.js';
import { Finding, type Stage } from './stage.js';

/** Number of tries of a list in a case with faults. */
const TRIES = 3;

/** The shortest failing list. */
export interface Shortest {
  readonly kept: readonly Place[];
  /** The difference of that list, and the logs of the actors. */
  readonly why: string;
  readonly log: string;
  readonly tries: number;
}

/** Opens a stage in a fresh folder. */
export type Opening = (plan: Plan) => Promise<Stage>;

/** All operations, approximately in the order in which they are played. */
function placesOf(plan: Plan, length: number): Place[] {
  const actors = [...Array(actorsOf(plan)).keys()];
  return [...Array(length).keys()].flatMap((number) => actors.map((actor) => ({ actor, number })));
}

/** See the file's head. @returns undefined if it does not fail again @param seconds after which it ends */
export async function shrink(
  plan: Plan,
  { length, kept: first }: Extent,
  seconds: number,
  open: Opening,
): Promise<Shortest | undefined> {
  const deadline = performance.now() + 1000 * seconds;
  const isOver = (): boolean => performance.now() > deadline;
  let tries = 0;
  let shortest: Shortest | undefined;
  const attempt = async (kept: readonly Place[]): Promise<boolean> => {
    tries++;
    const stage = await open(plan);
    try {
      await playCase(stage, plan, { length, kept }, () => undefined);
      return false;
    } catch (error) {
      if (!(error instanceof Finding) || error.hangs) return false;
      shortest = { kept, why: error.message, log: stage.actorLogs(), tries };
      return true;
    } finally {
      await stage.abandon();
      stage.remove();
    }
  };
  const fails = async (kept: readonly Place[]): Promise<boolean> => {
    for (let i = 0; i < (plan.faults === 'none' ? 1 : TRIES) && !isOver(); i++)
      if (await attempt(kept)) return true;
    return false;
  };
  const all = first ?? placesOf(plan, length);
  if (!(await fails(all))) return undefined;
  await minimise(all, fails, isOver);
  return shortest && { ...shortest, tries };
}
