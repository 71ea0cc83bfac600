// Finds the process that serves a mount, so that --unmount can wait for its end.

import { findProcess, type RunningProcess, runningProcess } from '../../linux/process.js';
import type { MountEntry } from '../../mount/mount-table.js';
import type { Status } from '../../worker/contract/status.js';

/** Seconds by which two measurements of a process's age may differ. */
const TOLERANCE = 2;

/** The members of a status that identify its process. */
export type ServingStatus = Pick<Status, 'pid' | 'uptime' | 'processStart' | 'pidNamespace'>;

/**
 * The process that serves a mount; `hidden` if it is in a PID namespace that this process cannot see; undefined if it
 * cannot be identified. The status of a mount may come from any process: it counts only if the process is an nbdfuse,
 * belongs to the user who mounted, and has the named start time or, for older versions, is at least as old as the mount.
 */
export function serverOf(
  status: ServingStatus | undefined,
  { userId }: Pick<MountEntry, 'userId'>,
): RunningProcess | 'hidden' | undefined {
  if (status === undefined) return undefined;
  const { pid, uptime, processStart: start, pidNamespace } = status;
  const isIdentified = start !== undefined && pidNamespace !== undefined;
  const shown = isIdentified ? findProcess(pid, { start, pidNamespace }) : pid;
  if (shown === 'hidden') return 'hidden';
  const found = runningProcess(shown);
  if (found === undefined || found.userId !== userId) return undefined;
  const isNbdfuse = found.words.some((word) => /nbdfuse/.test(word));
  return isNbdfuse && found.age + TOLERANCE >= uptime ? found : undefined;
}
