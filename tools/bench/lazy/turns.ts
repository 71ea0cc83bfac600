// Players that take turns: each plays once a round, in a fresh scope, and returns what it measured.

import type { Scope } from '../../../test/support/run/scope.js';

/** The figures of one play, by names. */
export type Figures = Readonly<Record<string, number>>;

export interface Player {
  readonly name: string;
  play(scope: Scope): Promise<Figures>;
}

/** The figures of all rounds. */
export class Rounds {
  readonly #figures = new Map<string, number[]>();

  add(player: string, figures: Figures): void {
    for (const [name, value] of Object.entries(figures)) {
      const key = `${player}/${name}`;
      this.#figures.set(key, [...(this.#figures.get(key) ?? []), value]);
    }
  }

  /** One figure of a player, of each round. @throws Error when it was not measured */
  of(player: string, name: string): readonly number[] {
    const found = this.#figures.get(`${player}/${name}`);
    if (found === undefined) throw new Error(`${player} did not measure ${name}`);
    return found;
  }
}

/** Milliseconds until a mount is ready: a filter that unpacks all of an image before takes long. */
const READY_LIMIT = 300_000;

/** Plays all rounds, forwards and backwards by turns, so that each player is next to each other one as often. */
export async function takeTurns(outer: Scope, rounds: number, players: readonly Player[]): Promise<Rounds> {
  const all = new Rounds();
  for (let i = 0; i < rounds; i++) {
    for (const { name, play } of i % 2 === 0 ? players : players.toReversed()) {
      const scope = outer.inner(READY_LIMIT);
      try {
        const figures = await play(scope);
        all.add(name, figures);
        console.error(`bench: round ${i + 1}, ${name}: ${shown(figures)}`);
      } finally {
        await scope.close();
      }
    }
  }
  return all;
}

const shown = (figures: Figures): string =>
  Object.entries(figures)
    .map(([name, value]) => `${name} ${value.toPrecision(3)}`)
    .join(', ');
