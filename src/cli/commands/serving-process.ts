// Finds the process that serves a mount, so that --unmount can wait for its end.

import { type RunningProcess, runningProcess } from '../../linux/process.js';
import type { MountEntry } from '../../mount/mount-table.js';
import type { Status } from '../../worker/contract/status.js';

/** Seconds by which two measurements of a process's age may differ. */
const TOLERANCE = 2;

/**
 * The process that serves a mount, if it can be identified. The status of a mount may come from any process: it counts
 * only if the process is an nbdfuse, belongs to the user who mounted, and is at least as old as the mount.
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
