// Which process serves a mount, for --unmount, which waits for its end.

import { type RunningProcess, runningProcess } from '../../linux/process.js';
import type { MountEntry } from '../../mount/mount-table.js';
import type { Status } from '../../worker/contract/status.js';

/** Seconds by which two ways to tell a process's age may differ. */
const TOLERANCE = 2;

/**
 * The process that serves a mount, if it can be told. What the mount says of itself may come from anybody: it is
 * believed only where the process is nbdfuse, belongs to who mounted, and is as old as the mount at least.
 */
export function serverOf(
  status: Pick<Status, 'pid' | 'uptime'> | undefined,
  { userId }: Pick<MountEntry, 'userId'>,
): RunningProcess | undefined {
  const found = runningProcess(status?.pid);
  if (status === undefined || found === undefined || found.userId !== userId) return undefined;
  const isNbdfuse = found.words.some((word) => /nbdfuse/.test(word));
  return isNbdfuse && found.age + TOLERANCE >= status.uptime ? found : undefined;
}
