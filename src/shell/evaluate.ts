// Runs the code of -c: all of it as one function, so that later parts see the variables of earlier ones.
//
// Called by main.ts. Whatever the code throws is the caller's to report.

import type { ShellScope } from './scope.js';

type AsyncFunction = (...values: readonly unknown[]) => Promise<unknown>;

const AsyncFunction = (async () => undefined).constructor as new (
  ...source: readonly string[]
) => AsyncFunction;

/** Runs the parts in order; resolves when the last has ended. Rejects with what the code throws. */
export async function evaluate(parts: readonly string[], scope: ShellScope): Promise<void> {
  // Without the semicolon a part that begins with a parenthesis would call the end of the one before.
  const run = new AsyncFunction(...Object.keys(scope), parts.join('\n;'));
  await run(...Object.values(scope));
}
