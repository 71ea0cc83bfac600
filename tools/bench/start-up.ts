// The time from the command to the ready file, and the memory of one mount and of many.

import type { Scope } from '../../test/support/run/scope.js';
import { median } from './measure.js';
import { peakMiB, proportionalMiB } from './processes.js';
import { nbdkit } from './servers.js';
import { type Mounted, mount, type Side } from './sides.js';

/** Medians over some starts. */
export interface StartUp {
  readonly side: string;
  readonly milliseconds: number;
  readonly peakMiB: number;
}

/** MiB of all mounts together: with shared pages counted once, and the sum of the peaks. */
export interface Memory {
  readonly side: string;
  readonly mounts: number;
  readonly proportionalMiB: number;
  readonly peakMiB: number;
}

/** Starts each side by turns, `rounds` times and once to warm up, on one server. */
export async function measureStart(
  scope: Scope,
  sides: readonly Side[],
  rounds: number,
): Promise<readonly StartUp[]> {
  const target = await nbdkit(scope, 'memory', '64M');
  const found = sides.map(() => ({ ready: [] as number[], peak: [] as number[] }));
  for (let i = -1; i < rounds; i++) {
    for (const [j, side] of sides.entries()) {
      const mounted = await mount(scope, side, target);
      if (i >= 0) {
        found[j].ready.push(mounted.ready);
        found[j].peak.push(peakMiB(mounted.pid));
      }
      await mounted.unmount();
    }
  }
  return sides.map(({ name }, j) => ({
    side: name,
    milliseconds: median(found[j].ready),
    peakMiB: median(found[j].peak),
  }));
}

/** Mounts one server `mounts` times by each side. */
export async function measureMemory(
  outer: Scope,
  sides: readonly Side[],
  mounts: number,
): Promise<readonly Memory[]> {
  const scope = outer.inner();
  const target = await nbdkit(scope, 'memory', '64M');
  const results: Memory[] = [];
  for (const side of sides) {
    const mounted: Mounted[] = [];
    for (let i = 0; i < mounts; i++) mounted.push(await mount(scope, side, target));
    const sum = (of: (pid: number) => number): number =>
      mounted.reduce((total, { pid }) => total + of(pid), 0);
    results.push({
      side: side.name,
      mounts,
      proportionalMiB: sum(proportionalMiB),
      peakMiB: sum(peakMiB),
    });
    await Promise.all(mounted.map((one) => one.unmount()));
  }
  return results;
}
