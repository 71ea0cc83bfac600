// Whether a process that was interrupted by a signal means to stop.
//
// A read or write of a disk file never returns EINTR for a signal that a program handles and goes on
// from (SIGALRM, SIGCHLD, Go's SIGURG): programs rely on it. So an interrupted request is given up only
// for the signals by which people and systems end programs.

import { readFileSync } from 'node:fs';

/** SIGHUP, SIGINT, SIGQUIT, SIGKILL and SIGTERM: bit n-1 stands for signal n. */
const ENDING = (1n << 0n) | (1n << 1n) | (1n << 2n) | (1n << 8n) | (1n << 14n);

/**
 * The signals that wait for a task and will reach it, from the text of /proc/PID/status: bit n-1 for signal n.
 * What it has blocked, a program means to ask for, or leaves to another of its threads.
 */
export function pendingSignals(status: string): bigint {
  let pending = 0n;
  let blocked = 0n;
  for (const [, name, digits] of status.matchAll(/^(SigPnd|ShdPnd|SigBlk):\s*([0-9a-f]+)$/gm)) {
    const signals = BigInt(`0x${digits}`);
    if (name === 'SigBlk') blocked = signals;
    else pending |= signals;
  }
  return pending & ~blocked;
}

/** Whether the task `pid` is being ended; undefined when it cannot be looked at: gone, or in another namespace. */
export function isBeingEnded(pid: number): boolean | undefined {
  try {
    return (pendingSignals(readFileSync(`/proc/${pid}/status`, 'utf8')) & ENDING) !== 0n;
  } catch {
    return undefined;
  }
}

/** How to look at a task: as `isBeingEnded`. */
type Look = (pid: number) => boolean | undefined;

/** Whether an interrupted task means to stop; undefined where its signal cannot be told. */
export function wantsToStop(pid: number, isEnded: Look = isBeingEnded): boolean | undefined {
  if (pid <= 0) return pid === 0 ? undefined : false;
  return isEnded(pid);
}

/**
 * Of requests that wait long already, those whose askers are being ended. Of a read through the page cache
 * the kernel does not tell that it was interrupted: it waits for the page, not for the answer. Of any other it
 * tells once: when the first signal was a harmless one, nothing is heard of a later one. What the kernel asks by
 * itself, such as to write a page back, has the pid 0.
 */
export function* abandoned<T extends { readonly pid: number }>(
  waiting: Iterable<T>,
  isEnded: Look = isBeingEnded,
): Generator<T> {
  const known = new Map<number, boolean>();
  for (const one of waiting) {
    const { pid } = one;
    const ended = known.get(pid) ?? (pid > 0 && isEnded(pid) === true);
    known.set(pid, ended);
    if (ended) yield one;
  }
}
