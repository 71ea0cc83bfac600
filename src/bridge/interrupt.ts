// Whether a process that was interrupted by a signal means to stop.
//
// A read or write of a disk file never returns EINTR for a signal that a program handles and goes on
// from (SIGALRM, SIGCHLD, Go's SIGURG): programs rely on it. So an interrupted request is given up only
// for the signals by which people and systems end programs.

import { readFileSync } from 'node:fs';

/** SIGHUP, SIGINT, SIGQUIT, SIGKILL and SIGTERM: bit n-1 stands for signal n. */
const ENDING = (1n << 0n) | (1n << 1n) | (1n << 2n) | (1n << 8n) | (1n << 14n);

/** The signals that wait for a task, from the text of /proc/PID/status: bit n-1 for signal n. */
export function pendingSignals(status: string): bigint {
  let pending = 0n;
  for (const match of status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm))
    pending |= BigInt(`0x${match[1]}`);
  return pending;
}

/** Whether the task `pid` is being ended, or cannot be looked at (another namespace, gone already). */
export function wantsToStop(pid: number): boolean {
  try {
    return (pendingSignals(readFileSync(`/proc/${pid}/status`, 'utf8')) & ENDING) !== 0n;
  } catch {
    return true;
  }
}
