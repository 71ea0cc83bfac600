// What must be true, checked where it is relied on. A defect ends the mount with an error, never with a wrong byte.

/** Thrown where the worker finds itself in a state that cannot be. */
export class InvariantError extends Error {
  override name = 'InvariantError';
}

/** @param invariant what holds, as a sentence @throws InvariantError */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new InvariantError(`internal error: assertion failed: ${invariant}`);
}
