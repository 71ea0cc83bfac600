// The surroundings of the soak and of the fuzzing of files: an address, certificates, an orderly end.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { endAll, endAtSignals, pause } from '../bench/processes.js';
import { makeCertificates } from '../bench/servers.js';

/** An address that no client's end of a connection has: while a server is down, none can be on its port. */
export const HOST = '127.0.0.2';

/** Makes certificates for localhost in a folder below `root`, and returns it. */
export function certificatesIn(root: string): string {
  const pki = join(root, 'pki');
  mkdirSync(pki);
  makeCertificates(pki);
  return pki;
}

/** Runs `main`, ends all that it has started, and the program. @param first what is done at a signal before that */
export async function runToEnd(main: () => Promise<void>, first?: () => void): Promise<never> {
  endAtSignals(first);
  try {
    await main();
  } finally {
    endAll();
    // The kernel unmounts after a killed process only when that is gone.
    await pause(100);
  }
  process.exit();
}
