// The scope of a test, which always closes when the test ends.
//
// Of the helpers, only this file and handshake-pair.ts use vitest. The helpers in run/ start servers and
// mounts, for tests and tools.

import { onTestFinished } from 'vitest';
import { Scope } from './run/scope.js';

export type { Scope };

/** A scope that closes when the running test does. */
export function createScope(): Scope {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  return scope;
}

/** A directory that is removed when the running test ends. */
export const scratchFolder = (): string => createScope().folder;
