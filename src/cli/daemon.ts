// --daemon: the command returns when the file is ready, and a background process serves the mount.
//
// Called by main.ts. The command starts itself again in a new session, with a channel on which the new process reports
// that it is ready. If that process ends first, the command exits with its status.

import { spawn } from 'node:child_process';
import { fstatSync } from 'node:fs';
import { O_RDWR } from '../constants/open-flags.js';
import { SystemError } from '../linux/errno.js';
import { errno, libc } from '../linux/libc.js';
import { orderFor } from './daemon-order.js';
import { isJournal } from './log-sink.js';

const STDOUT = 1;
const STDERR = 2;

/** The descriptors of the new process: the one of --fd keeps its number. */
function descriptors(inherited: number | undefined): ('ignore' | 'inherit' | 'ipc' | number)[] {
  const base: ('ignore' | 'inherit' | 'ipc' | number)[] = ['ignore', 'inherit', 'inherit'];
  if (inherited === undefined) return [...base, 'ipc'];
  while (base.length < inherited) base.push('ignore');
  base[inherited] = inherited;
  return [...base, 'ipc'];
}

/**
 * Starts `words`, the command line without node and script, in the background; resolves with the exit
 * status when the file is ready, or when the process has ended.
 * @param inherited the descriptor of --fd
 */
export function startDaemon(words: readonly string[], inherited: number | undefined): Promise<number> {
  const [, script = ''] = process.argv;
  const child = spawn(process.execPath, [...process.execArgv, script, ...words], {
    detached: true,
    env: { ...process.env, ...orderFor(words) },
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

/** Lets the command return, and the current directory be removed. @throws SystemError */
export function becomeDaemon(): void {
  const nowhere = libc.open('/dev/null', O_RDWR, 0);
  if (nowhere < 0) throw new SystemError(errno(), 'open');
  for (const descriptor of [STDOUT, STDERR]) {
    // A terminal may be closed, and the reader of a pipe waits for its end.
    const found = fstatSync(descriptor);
    if (!found.isFile() && !isJournal(process.env, found)) libc.dup2(nowhere, descriptor);
  }
  libc.close(nowhere);
  // The session has kept its paths: see src/session/kept-paths.ts.
  process.chdir('/');
  process.send?.('ready');
  process.disconnect();
}
