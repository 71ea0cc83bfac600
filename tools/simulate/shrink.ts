// Shrinks a failing list of steps: omits the steps that are not needed for breaking the same rule.

import type { Action } from './actions.js';
import { replay } from './history.js';
import type { Profile } from './profile.js';

/** Milliseconds that it may take. */
const TIME = 20_000;

/** See the file's head. A list that is returned has failed. */
export function shrink(profile: Profile, steps: readonly Action[], sign: string): readonly Action[] {
  const until = performance.now() + TIME;
  return minimise(
    steps,
    (some) => replay(profile, some).violation?.sign === sign,
    () => performance.now() >= until,
  );
}

/**
 * Omits the unnecessary items of `items`, a list that fails: first the end, then parts of half the length, of
 * a quarter, down to single items.
 */
export function minimise<T>(
  items: readonly T[],
  fails: (some: readonly T[]) => boolean,
  isOver: () => boolean,
): readonly T[] {
  let left = shortestBeginning(items, fails, isOver);
  for (let size = Math.ceil(left.length / 2); size > 0 && !isOver(); ) {
    const before = left.length;
    // From the end: late items depend on early ones.
    for (let end = left.length; end > 0 && !isOver(); end -= size) {
      const fewer = [...left.slice(0, Math.max(0, end - size)), ...left.slice(end)];
      if (fewer.length < left.length && fails(fewer)) left = fewer;
    }
    if (size > 1) size = Math.ceil(size / 2);
    else if (left.length === before) break;
  }
  return left;
}

function shortestBeginning<T>(
  items: readonly T[],
  fails: (some: readonly T[]) => boolean,
  isOver: () => boolean,
): readonly T[] {
  let [good, bad] = [0, items.length];
  while (bad - good > 1 && !isOver()) {
    const middle = Math.floor((good + bad) / 2);
    if (fails(items.slice(0, middle))) bad = middle;
    else good = middle;
  }
  return items.slice(0, bad);
}
