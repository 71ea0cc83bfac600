// The simulator of the chunk server: it finds defects that are put back, finds nothing without them, and repeats itself.

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { play } from '../../../../tools/simulate/chunks/history.js';
import { defectsIn, PatchedSimulators, search } from '../../../support/patched-simulator.js';

/** Number of seeds before the known one that the test also runs. */
const BEFORE = 2;
/** Maximum number of seeds: a change of the chunk server changes the histories of the seeds. */
const MOST_SEEDS = 200;
const TIMEOUT = 180_000;

const simulators = new PatchedSimulators('tools/simulate/chunks/run.ts');

afterAll(() => simulators.remove());

describe('simulator of the chunk server: finds a defect that is put back', () => {
  let sound = '';

  beforeAll(async () => {
    sound = await simulators.build('none', '');
  });

  it.each(defectsIn(join(import.meta.dirname, 'chunk-defects')))(
    '$name',
    { timeout: TIMEOUT },
    async ({ name, text, rules, seed }) => {
      const program = await simulators.build(name, text);
      const from = Math.max(1, seed - BEFORE);
      const found = await search(program, from, MOST_SEEDS);
      expect(rules, `rules of ${name}, found ${JSON.stringify(found)}`).toContain(found?.rule);
      const seeds = (found?.seed ?? from) - from + 1;
      expect(await search(sound, from, seeds), 'found without it').toBeUndefined();
    },
  );
});

describe('simulator of the chunk server', () => {
  it('repeats the history of a seed, and has others for other seeds', { timeout: TIMEOUT }, async () => {
    const digests: number[] = [];
    for (let seed = 1; seed <= 12; seed++) {
      const [first, second] = [await play(seed), await play(seed)];
      expect([first.violation, first.digest, first.steps]).toEqual([undefined, second.digest, second.steps]);
      digests.push(first.digest);
    }
    expect(new Set(digests).size).toBe(digests.length);
  });
});
