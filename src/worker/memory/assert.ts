// Invariants, checked where the code relies on them. A defect ends the mount with an error, never with a wrong byte.

/** A broken invariant: a defect of nbdfuse. */
export class InvariantError extends Error {
  override name = 'InvariantError';
}

let isThorough = false;

/** Turns on the assertions that cost much: in the simulator and in fuzzers. */
export function assertThoroughly(): void {
  isThorough = true;
}

/** Checks an invariant at some cost, if `assertThoroughly` was called. */
export function assertSlowly(condition: () => boolean, invariant: string): void {
  if (isThorough) assert(condition(), invariant);
}

/** Checks an invariant. @param invariant the fact that holds, as a sentence @throws InvariantError */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new InvariantError(`internal error: assertion failed: ${invariant}`);
}
