// Assertions of the chunk server.

/** @throws Error when an invariant does not hold: a defect of ours */
export function assert(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`chunk server: ${what}`);
}
