// Runs the code of -c as one function, so that later parts see the variables of earlier ones.

import type { ShellScope } from './scope.js';

type AsyncFunction = (...values: readonly unknown[]) => Promise<unknown>;

const AsyncFunction = (async () => undefined).constructor as new (
  ...source: readonly string[]
) => AsyncFunction;

/** Runs the parts in order. Resolves when the last has ended; rejects with any error of the code. */
export async function evaluate(parts: readonly string[], scope: ShellScope): Promise<void> {
  // Without the semicolon, a part that begins with a parenthesis would call the end of the previous part.
  const run = new AsyncFunction(...Object.keys(scope), parts.join('\n;'));
  await run(...Object.values(scope));
}
