// A mount whose server can be made to hang: it stays alive and does not answer (SIGSTOP).

import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { whenConnected } from './connected.js';
import { type MountedDisk, mountDisk } from './run/mount.js';
import type { Program } from './run/program.js';
import type { Scope } from './run/scope.js';
import { startNbdkit } from './run/servers.js';
import { until } from './run/until.js';

const SIZE = 64 * 1024 * 1024;

export interface Hanging {
  readonly disk: MountedDisk;
  /** The server's disk: 64 MiB. */
  readonly image: string;
  /** Resolves when it hangs. */
  freeze(): Promise<void>;
  thaw(): void;
}

/** Mounts with all connections. @param options of nbdfuse. Needs the programs nbdkit and getfattr. */
export async function mountHanging(scope: Scope, ...options: readonly string[]): Promise<Hanging> {
  const image = scope.path('disk.raw');
  writeFileSync(image, '');
  truncateSync(image, SIZE);
  const { program, uri } = await startNbdkit(scope, '--threads=1', 'file', image);
  const disk = await mountDisk(scope, { server: [uri()], options });
  await whenConnected(disk, options);
  const tasks = `/proc/${program.pid}/task`;
  const hasStopped = (): boolean => {
    try {
      return readdirSync(tasks).every((task) =>
        /^State:\s+T/m.test(readFileSync(`${tasks}/${task}/status`, 'utf8')),
      );
    } catch {
      // A thread has ended meanwhile.
      return false;
    }
  };
  const freeze = async (): Promise<void> => {
    program.child.kill('SIGSTOP');
    await until('the server to stop', hasStopped);
  };
  return { disk, image, freeze, thaw: () => void program.child.kill('SIGCONT') };
}

/** The numbers of fstat, newfstatat and statx on x86-64, and on arm64. */
const STAT_CALLS = ['5', '262', '332', '80', '79', '291'];

/**
 * Resolves when a program waits in the kernel, in a function of such a name, and not in stat(2): with a hanging server
 * that waits a moment for the count of blocks, before the call that the test is about.
 */
export async function whenWaiting({ pid }: Program, where: RegExp): Promise<void> {
  const isWaiting = async (): Promise<boolean> => {
    const [call = ''] = (await readFile(`/proc/${pid}/syscall`, 'utf8')).split(' ');
    return !STAT_CALLS.includes(call) && where.test(await readFile(`/proc/${pid}/wchan`, 'utf8'));
  };
  await until('a program to wait for the server', isWaiting);
}
