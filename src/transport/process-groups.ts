// Waits for the end of process groups that a child has started.

import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from './errors.js';

/** Milliseconds between two looks. */
const LOOK = 50;

/** Whether a process is left in a group, of any user. A group that has the number by now counts, too. */
function hasProcess(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== 'ESRCH';
  }
}

/** Resolves when no process is left in any of the groups. */
export async function groupsEnded(groups: readonly number[]): Promise<void> {
  while (groups.some(hasProcess)) await delay(LOOK, undefined, { ref: false });
}
