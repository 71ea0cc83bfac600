// Waits until a mount has all of its connections: it is ready with the first one.

import { runProgram } from './run/command.js';
import type { MountedDisk } from './run/mount.js';
import { until } from './run/until.js';

/** nbdfuse's default number of connections. */
const BY_ITSELF = 4;

/** Read threads add connections of their own. @param options of nbdfuse, among which `-C` may be. Needs getfattr. */
export async function whenConnected({ file }: MountedDisk, options: readonly string[]): Promise<void> {
  const wanted = options.includes('-C') ? Number(options[options.indexOf('-C') + 1]) : BY_ITSELF;
  const words = ['--absolute-names', '--only-values', '-n', 'user.nbd.status', file];
  await until('all connections', async () => {
    const { connections } = JSON.parse(await runProgram('getfattr', ...words));
    return connections.length >= wanted;
  });
}
