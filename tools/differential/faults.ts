// The faults of a case: connections cut, the server killed or frozen, at random moments.
//
// Used by stage.ts. The moment of a fault is not part of the seed: a difference that needs a fault may not
// repeat.

import { setTimeout as pause } from 'node:timers/promises';
import type { CuttingProxy } from '../../test/support/run/cutting-proxy.js';
import type { DiskServer } from '../soak/server.js';
import type { Plan } from './plan.js';

/** Seconds after which nbdfuse gives up a server that does not answer; some freezes are longer. */
export const TIMEOUT = 0.7;

/** The count of each kind; `end`: the chunk server alone was killed. */
export type FaultCounts = Record<'cut' | 'kill' | 'freeze' | 'end', number>;

/** The victims of the faults. */
export interface Targets {
  readonly server: DiskServer;
  readonly proxy: CuttingProxy | undefined;
  /** The chunk server. `kill` returns whether there was one. */
  readonly relay: { kill(): Promise<boolean> } | undefined;
}

/** Least and most milliseconds between two faults of a kind. */
const PAUSES: Readonly<Record<Plan['faults'], readonly [number, number]>> = {
  none: [0, 0],
  cuts: [50, 1500],
  kills: [500, 3000],
  freezes: [500, 3000],
};

const between = (least: number, most: number): number => least + Math.random() * (most - least);

/** See the file's head. */
export class Faults {
  readonly counts: FaultCounts = { cut: 0, kill: 0, freeze: 0, end: 0 };
  readonly #kind: Plan['faults'];
  readonly #targets: Targets;
  #calm: AbortController | undefined;
  #working: Promise<void> = Promise.resolve();
  /** Milliseconds until the next fault; only time with operations counts. */
  #left: number;

  constructor(kind: Plan['faults'], targets: Targets) {
    this.#kind = kind;
    this.#targets = targets;
    this.#left = between(...PAUSES[kind]);
  }

  /** Begins, until `rest`. */
  begin(): void {
    if (this.#kind === 'none') return;
    this.#calm = new AbortController();
    this.#working = this.#work(this.#calm.signal);
  }

  /** Ends; the server is up when this resolves. */
  async rest(): Promise<void> {
    this.#calm?.abort();
    await this.#working;
  }

  async #work(calm: AbortSignal): Promise<void> {
    while (!calm.aborted) {
      const startedAt = performance.now();
      await pause(this.#left, undefined, { signal: calm }).catch(() => undefined);
      this.#left -= performance.now() - startedAt;
      if (calm.aborted) return;
      await this.#strike();
      this.#left = between(...PAUSES[this.#kind]);
    }
  }

  async #strike(): Promise<void> {
    const { server, proxy, relay } = this.#targets;
    // Every kind of fault includes cut connections.
    if (this.#kind === 'cuts' || Math.random() < 0.3) {
      proxy?.cut(Math.random() < 0.3 ? Number.POSITIVE_INFINITY : 1);
      this.counts.cut++;
    } else if (this.#kind === 'kills' && relay !== undefined && Math.random() < 0.5) {
      if (await relay.kill()) this.counts.end++;
    } else if (this.#kind === 'kills') {
      await server.kill();
      await pause(between(0, 200));
      await server.start();
      this.counts.kill++;
    } else {
      server.freeze();
      await pause(between(50, 2000 * TIMEOUT));
      server.thaw();
      this.counts.freeze++;
    }
  }
}
