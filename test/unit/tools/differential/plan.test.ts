import { expect, describe as group, it } from 'vitest';
import { describe, parsePins, planOf } from '../../../../tools/differential/plan.js';

const SEEDS = [...Array(200).keys()];

group('a case', () => {
  it('plan: is the same for a seed each time', () => {
    expect(planOf(7, {})).toEqual(planOf(7, {}));
  });

  it('plan: its text, given to --case, gives the same plan', () => {
    for (const seed of SEEDS) {
      const plan = planOf(seed, {});
      expect(planOf(seed, parsePins(describe(plan)))).toEqual(plan);
    }
  });

  it('plan: takes the former name of a value', () => {
    expect(parsePins('server=far,way=tls')).toEqual({ server: 'remote', way: 'tls' });
  });

  it('plan: keeps everything but the pinned threads', () => {
    for (const seed of SEEDS) {
      const { threads, ...others } = planOf(seed, {});
      const pinned = planOf(seed, parsePins('threads=3'));
      expect(pinned).toMatchObject(others);
      expect(pinned.threads).toBe(pinned.backend === 'kernel' ? '3' : '1');
    }
  });

  it('plan: has one thread or three, without a change of the other choices of a seed', () => {
    const drawn = SEEDS.map((seed) => planOf(seed, parsePins('backend=kernel')).threads);
    expect(new Set(drawn)).toEqual(new Set(['1', '3']));
    // The choices of seed 200 in earlier versions.
    expect(planOf(200, parsePins('keep=nothing'))).toMatchObject({
      size: 6_309_714,
      server: 'remote',
      way: 'tcp',
    });
  });
});
