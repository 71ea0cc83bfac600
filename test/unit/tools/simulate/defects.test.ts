// Proof that the simulator finds defects: the test puts them back into the worker, one at a time.
//
// docs/internals/simulation.md has the table of the defects.

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defectsIn, PatchedSimulators, search } from '../../../support/patched-simulator.js';

/** Number of seeds before the known one that the test also runs. */
const BEFORE = 2;
/** Maximum number of seeds: a change of the worker changes the histories of the seeds. */
const MOST_SEEDS = 400;

const OPTIONS = ['--no-shrink'];

const simulators = new PatchedSimulators('tools/simulate/run.ts');

afterAll(() => simulators.remove());

describe('simulator: finds a defect that is put back', () => {
  const defects = defectsIn(join(import.meta.dirname, 'defects'));
  let sound = '';

  beforeAll(async () => {
    sound = await simulators.build('none', '');
  });

  it.each(defects)('$name', async ({ name, text, rules, seed }) => {
    const program = await simulators.build(name, text);
    const from = Math.max(1, seed - BEFORE);
    const found = await search(program, from, MOST_SEEDS, OPTIONS);
    expect(rules, `rules of ${name}, found ${JSON.stringify(found)}`).toContain(found?.rule);
    const seeds = (found?.seed ?? from) - from + 1;
    expect(await search(sound, from, seeds, OPTIONS), 'found without it').toBeUndefined();
  });

  it('the error names a patch that does not apply', async () => {
    const [{ text }] = defects;
    await expect(simulators.build('wrong', text.replace(/^-.*[a-z].*$/m, '-nothing'))).rejects.toThrow(
      /^wrong\.patch does not apply/,
    );
  });
});
