// Selects the operations of a case that are played: all, or those of a list.
//
// Pure. The list is the value of `--keep`: `ACTOR:NUMBER,…`.

/** One operation: its actor, and its number among the operations of that actor, from 0. */
export interface Place {
  readonly actor: number;
  readonly number: number;
}

/** Parses what `textOfPlaces` makes. @throws Error */
export function parsePlaces(text: string): Place[] {
  return text.split(',').map((one) => {
    const found = /^([0-2]):(\d{1,9})$/.exec(one);
    if (found === null) throw new Error(`--keep takes ACTOR:NUMBER,…, not ${one}`);
    return { actor: Number(found[1]), number: Number(found[2]) };
  });
}

export const textOfPlaces = (places: readonly Place[]): string =>
  places.map(({ actor, number }) => `${actor}:${number}`).join(',');

/** The numbers of an actor's operations that are kept, of `count` from `first` on. */
export function numbersOf(places: readonly Place[], actor: number, first: number, count: number): number[] {
  return places
    .filter((one) => one.actor === actor && one.number >= first && one.number < first + count)
    .map(({ number }) => number);
}
