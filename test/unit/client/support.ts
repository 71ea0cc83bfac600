// Clients of servers, which are closed when the test ends.

import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type ConnectOptions, NbdClient, type ServerAddress } from '../../../src/index.js';
import { scratchFolder } from '../../support/cleanup.js';

/** Address of an nbdkit that serves one connection on its standard input and output. */
export const nbdkit = (...args: string[]) => ({ command: ['nbdkit', '-s', ...args] });

/** An nbdkit with the sh plugin and this script, as an address. */
export function shell(script: string) {
  const path = join(scratchFolder(), 'plugin');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return nbdkit('sh', path);
}

/** Connects; the client is closed after the test. Drops the standard error of children. */
export async function connect(address: ServerAddress, options: ConnectOptions = {}): Promise<NbdClient> {
  const client = await NbdClient.connect(address, { onStderr: () => undefined, ...options });
  onTestFinished(() => client.close());
  return client;
}
