import { describe, expect, it } from 'vitest';
import { generate, replay } from '../../../../tools/simulate/history.js';
import { makeProfile } from '../../../../tools/simulate/profile.js';

const EVERYTHING = { without: [], only: undefined };

describe('simulator: one seed', () => {
  it.each([1, 3, 5, 8])('is the same history each time (%i)', (seed) => {
    const profile = makeProfile(seed, EVERYTHING);
    const [one, two] = [generate(profile, 300), generate(profile, 300)];
    expect(one.steps.length).toBeGreaterThan(100);
    expect(two.digest).toBe(one.digest);
    expect(two.steps).toEqual(one.steps);
  });

  it.each([1, 3, 5, 8])('is the same history when its steps are played again (%i)', (seed) => {
    const profile = makeProfile(seed, EVERYTHING);
    const made = generate(profile, 300);
    const again = replay(profile, made.steps);
    expect(again.steps).toEqual(made.steps);
    expect(again.violation?.message).toBe(made.violation?.message);
  });

  it('has no violation without a defect', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const profile = { ...makeProfile(seed, { without: [], only: [] }), unflushedLimit: 64 * 1024 * 1024 };
      expect(generate(profile, 200).violation?.message).toBeUndefined();
    }
  });
});
