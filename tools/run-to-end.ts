// The frame of a tool: one scope for everything that it starts, which always ends with the tool.
//
// Used by bench, soak and differential. Servers and mounts are started by the helpers of test/support/run, as
// in tests.

import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { Scope } from '../test/support/run/scope.js';

/** In memory if possible, so that no disk is measured. */
const PARENT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Milliseconds that a server or a mount may take to become ready. */
const READY_LIMIT = 20_000;

/**
 * Runs `main`, then ends everything that it has started, and the program. @param first runs before that at a
 * signal
 */
export async function runToEnd(
  main: (scope: Scope) => Promise<void>,
  first = (): void => undefined,
): Promise<never> {
  const scope = new Scope({ parent: PARENT, readyLimit: READY_LIMIT });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Stays in place while it works: timeout(1) and a terminal may send the signal twice.
    process.on(signal, () => {
      first();
      scope.endNow();
      process.exit(1);
    });
  }
  try {
    await main(scope);
  } finally {
    scope.endNow();
    // The kernel unmounts after a killed process only when that is gone.
    await pause(100);
  }
  process.exit();
}
