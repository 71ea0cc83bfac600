// From the command to the ready file, and the memory that takes.

import { median } from './measure.js';
import { folder, pause, peakMiB } from './processes.js';
import { nbdkit } from './servers.js';
import { mount, type Side } from './sides.js';

/** Medians over some starts: milliseconds and MiB. */
export interface StartUp {
  readonly side: string;
  readonly ready: number;
  readonly peakMiB: number;
}

/** Starts each side several times on one server. */
export async function measureStart(all: readonly Side[], rounds: number): Promise<StartUp[]> {
  const where = folder();
  const { uri } = await nbdkit(where, 'memory', '64M');
  const results: StartUp[] = [];
  for (const side of all) {
    const ready: number[] = [];
    const memory: number[] = [];
    for (let i = 0; i < rounds; i++) {
      const mounted = await mount(side, where, uri);
      ready.push(mounted.ready);
      memory.push(peakMiB(mounted.pid));
      mounted.unmount();
      await pause(100);
    }
    results.push({ side: side.name, ready: median(ready), peakMiB: median(memory) });
  }
  return results;
}
