// Whether a signal is about to end the process that waits for a request.
//
// Programs rely on it that a read or write of a disk file never fails with EINTR for a signal that they handle
// (SIGALRM, SIGCHLD, Go's SIGURG). So nbdfuse ends an interrupted request only for the signals that end programs.

import { readFileSync } from 'node:fs';

/** SIGHUP, SIGINT, SIGQUIT, SIGKILL and SIGTERM: bit n-1 stands for signal n. */
const ENDING = (1n << 0n) | (1n << 1n) | (1n << 2n) | (1n << 8n) | (1n << 14n);

/**
 * The pending signals that will reach a task, from the text of /proc/PID/status: bit n-1 stands for signal n.
 * Blocked signals do not count: the program polls for them, or another of its threads takes them.
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

/** Whether a signal is ending the task `pid`; undefined if it cannot be inspected: gone, or in another namespace. */
export function isBeingEnded(pid: number): boolean | undefined {
  try {
    return (pendingSignals(readFileSync(`/proc/${pid}/status`, 'utf8')) & ENDING) !== 0n;
  } catch {
    return undefined;
  }
}

/** Inspects a task, as `isBeingEnded` does. */
type Look = (pid: number) => boolean | undefined;

/** Whether a signal is ending an interrupted task; undefined if the task cannot be inspected. */
export function wantsToStop(pid: number, isEnded: Look = isBeingEnded): boolean | undefined {
  if (pid <= 0) return pid === 0 ? undefined : false;
  return isEnded(pid);
}

/**
 * Yields the long-waiting requests whose task a signal is ending. The kernel does not report all of these: a buffered
 * read waits for the page, so it gets no FUSE_INTERRUPT. Other requests get one, so a later signal goes unreported if
 * the first was harmless. The kernel's own requests, such as writeback, have pid 0.
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
