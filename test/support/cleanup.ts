// The scope of a test, which always closes when the test ends.
//
// Of the helpers, only this file and handshake-pair.ts use vitest. The helpers in run/ start servers and
// mounts, for tests and tools.

import { onTestFailed, onTestFinished } from 'vitest';
import { Scope } from './run/scope.js';

export type { Scope };

/** A scope that closes when the running test does. If that fails, it shows what its programs wrote to standard error. */
export function createScope(): Scope {
  const scope = new Scope();
  onTestFailed(() => {
    for (const words of scope.lastWords()) console.error(words);
  });
  onTestFinished(() => scope.close());
  return scope;
}

/** A directory that is removed when the running test ends. */
export const scratchFolder = (): string => createScope().folder;
