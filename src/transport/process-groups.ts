// Waits for the end of process groups: that of a child, and those that it has started.

import { setTimeout as delay } from 'node:timers/promises';
import { isGroupRunning } from '../linux/process.js';

/** Milliseconds between two looks, which read the state of all processes. */
const LOOK = 100;

/** Resolves when no process of any of the groups is running. */
export async function groupsEnded(groups: readonly number[]): Promise<void> {
  while (groups.some(isGroupRunning)) await delay(LOOK, undefined, { ref: false });
}
