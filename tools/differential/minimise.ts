// The shortest list that still fails: tries shorter beginnings first, then omits one part after another.
//
// Pure, except for the call of `fails`; used by shrink.ts. A failure that comes only sometimes makes the
// result longer, never wrong: a list that is returned has failed.

/**
 * Omits the unnecessary items of `items`, a list that fails.
 * @param fails whether a list, whose order is that of `items`, fails too
 * @param isOver whether there is no time left: then the list found so far is returned
 */
export async function minimise<T>(
  items: readonly T[],
  fails: (some: readonly T[]) => Promise<boolean>,
  isOver: () => boolean,
): Promise<readonly T[]> {
  const beginning = await shortestBeginning(items, fails, isOver);
  return withoutParts(beginning, fails, isOver);
}

/** Bisects. The result is not the shortest if a shorter beginning fails and a longer one does not. */
async function shortestBeginning<T>(
  items: readonly T[],
  fails: (some: readonly T[]) => Promise<boolean>,
  isOver: () => boolean,
): Promise<readonly T[]> {
  let [good, bad] = [0, items.length];
  while (bad - good > 1 && !isOver()) {
    const middle = Math.floor((good + bad) / 2);
    if (await fails(items.slice(0, middle))) bad = middle;
    else good = middle;
  }
  return items.slice(0, bad);
}

/** Parts of half the length, of a quarter, down to single items, until none of those can be left out. */
async function withoutParts<T>(
  items: readonly T[],
  fails: (some: readonly T[]) => Promise<boolean>,
  isOver: () => boolean,
): Promise<readonly T[]> {
  let left = items;
  for (let size = Math.ceil(left.length / 2); size > 0 && !isOver(); ) {
    const before = left.length;
    // From the end: late items depend on early ones.
    for (let end = left.length; end > 0 && left.length > 1 && !isOver(); end -= size) {
      const fewer = [...left.slice(0, Math.max(0, end - size)), ...left.slice(end)];
      if (fewer.length > 0 && fewer.length < left.length && (await fails(fewer))) left = fewer;
    }
    if (size > 1) size = Math.ceil(size / 2);
    else if (left.length === before) break;
  }
  return left;
}
