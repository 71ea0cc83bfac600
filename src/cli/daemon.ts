// --daemon: the command returns when the file is ready, and the mount is served in the background.
//
// Called by main.ts. The command starts itself again in a session of its own, with a channel through which
// the new process says that it is ready; if that ends before, its status is the command's.

import { spawn } from 'node:child_process';
import { fstatSync } from 'node:fs';
import { SystemError } from '../linux/errno.js';
import { errno, libc } from '../linux/libc.js';
import { O_RDWR } from '../linux/open-flags.js';

const STDOUT = 1;
const STDERR = 2;

/** Whether this process is the one in the background. */
export function isDaemon(): boolean {
  return process.send !== undefined;
}

/** The descriptors of the new process: what --fd names stays where it is. */
function descriptors(inherited: number | undefined): ('ignore' | 'inherit' | 'ipc' | number)[] {
  const base: ('ignore' | 'inherit' | 'ipc' | number)[] = ['ignore', 'inherit', 'inherit'];
  if (inherited === undefined) return [...base, 'ipc'];
  while (base.length < inherited) base.push('ignore');
  base[inherited] = inherited;
  return [...base, 'ipc'];
}

/**
 * Starts `words`, the command line without node and script, in the background; resolves with the exit
 * status when the file is ready, or when there is nothing to wait for any more.
 * @param inherited the descriptor of --fd
 */
export function startDaemon(words: readonly string[], inherited: number | undefined): Promise<number> {
  const [, script = ''] = process.argv;
  const child = spawn(process.execPath, [...process.execArgv, script, ...words], {
    detached: true,
    stdio: descriptors(inherited),
  });
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => child.kill(name));
  return new Promise((resolve) => {
    child.once('message', () => {
      child.disconnect();
      child.unref();
      resolve(0);
    });
    child.once('error', () => resolve(1));
    child.once('exit', (status) => resolve(status ?? 1));
  });
}

/** Lets the command return; what is said from now on goes to a file, or nowhere. @throws SystemError */
export function becomeDaemon(): void {
  const nowhere = libc.open('/dev/null', O_RDWR, 0);
  if (nowhere < 0) throw new SystemError(errno(), 'open');
  for (const descriptor of [STDOUT, STDERR]) {
    // A terminal may be closed, and who reads a pipe waits for its end.
    if (!fstatSync(descriptor).isFile()) libc.dup2(nowhere, descriptor);
  }
  libc.close(nowhere);
  process.send?.('ready');
  process.disconnect();
}
