// The scope of a test, which closes when the test does, however that ends.
//
// Of the helpers, only this file and handshake-pair.ts use vitest. The helpers in run/ start servers and mounts,
// for tests and tools.

import { onTestFinished } from 'vitest';
import { Scope } from './run/scope.js';

export type { Scope };

/** A scope that closes when the running test does. */
export function createScope(): Scope {
  const scope = new Scope();
  onTestFinished(() => scope.close());
  return scope;
}

/** A folder that goes when the running test ends. */
export const scratchFolder = (): string => createScope().folder;
