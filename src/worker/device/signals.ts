// Whether the task that waits for a request gets EINTR because of its pending signals.
//
// Programs rely on it that a read or write of a disk file never fails with EINTR for a signal that they handle (SIGALRM,
// SIGCHLD, Go's SIGURG, a server's SIGHUP). So nbdfuse ends an interrupted request at once only for a signal that ends
// the program. A program may handle such a signal to clean up and exit: then silence of the server decides.

import { readFileSync } from 'node:fs';

const SIGINT = 1n << 1n;
const SIGQUIT = 1n << 2n;
const SIGKILL = 1n << 8n;
/** SIGHUP, SIGINT, SIGQUIT, SIGKILL and SIGTERM: bit n-1 stands for signal n. */
const ENDING = (1n << 0n) | SIGINT | SIGQUIT | SIGKILL | (1n << 14n);
/** The signals that keys of a terminal send. */
const KEYS = SIGINT | SIGQUIT;

/** Milliseconds of the server's silence after which a signal ends a request; see `patienceOf`. */
export const PATIENCE = {
  /** No signal. */
  none: Number.POSITIVE_INFINITY,
  /** A signal that ends the program. */
  ending: 0,
  /** A key of its terminal, for which the program has a handler. */
  key: 2000,
  /** Another signal for which the program has a handler, or an unknown signal. */
  unknown: 30_000,
} as const;

/** The pending signals that will reach a task, and which of them it handles: bit n-1 stands for signal n. */
interface Pending {
  readonly signals: bigint;
  readonly handled: bigint;
}

/**
 * The pending signals from the text of /proc/PID/status. Blocked signals do not count: the program polls for them, or
 * another of its threads takes them.
 */
export function pendingSignals(status: string): Pending {
  let pending = 0n;
  let blocked = 0n;
  let handled = 0n;
  for (const [, name, digits] of status.matchAll(/^(SigPnd|ShdPnd|SigBlk|SigCgt):\s*([0-9a-f]+)$/gm)) {
    const signals = BigInt(`0x${digits}`);
    if (name === 'SigBlk') blocked = signals;
    else if (name === 'SigCgt') handled = signals;
    else pending |= signals;
  }
  const signals = pending & ~blocked;
  return { signals, handled: signals & handled };
}

/** Whether keys of a terminal send signals to a process, from the text of /proc/PID/stat. */
export function isInForeground(stat: string): boolean {
  // state ppid pgrp session tty_nr tpgid. The name in parentheses may contain any character.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return group !== undefined && Number(group) > 0 && group === foreground;
}

/**
 * Milliseconds of the server's silence after which a request of the task `pid` ends, by its pending signals. Undefined
 * if the task cannot be inspected: gone, or in another namespace.
 */
export function patienceOf(pid: number): number | undefined {
  try {
    const folder = `/proc/${pid}`;
    const { signals, handled } = pendingSignals(readFileSync(`${folder}/status`, 'utf8'));
    if ((signals & ~handled & ENDING) !== 0n) return PATIENCE.ending;
    if ((handled & ENDING) === 0n) return PATIENCE.none;
    const isKey = (handled & KEYS) !== 0n && isInForeground(readFileSync(`${folder}/stat`, 'utf8'));
    return isKey ? PATIENCE.key : PATIENCE.unknown;
  } catch {
    return undefined;
  }
}

/** Inspects a task, as `patienceOf` does. */
type Look = (pid: number) => number | undefined;

/** The patience with the task of a request after its FUSE_INTERRUPT. Pid 0 is a task of another namespace. */
export function patienceAfterInterrupt(pid: number, look: Look = patienceOf): number {
  if (pid < 0) return PATIENCE.none;
  return (pid === 0 ? undefined : look(pid)) ?? PATIENCE.unknown;
}

/**
 * Yields the long-waiting requests whose task has a signal, with the patience. The kernel does not report all of these:
 * a buffered read waits for the page, so it gets no FUSE_INTERRUPT. Other requests get one, so a later signal goes
 * unreported if the first was harmless. The kernel's own requests, such as writeback, have pid 0.
 */
export function* signalled<T extends { readonly pid: number; readonly interrupted?: boolean }>(
  waiting: Iterable<T>,
  look: Look = patienceOf,
): Generator<[T, number]> {
  const known = new Map<number, number | undefined>();
  for (const one of waiting) {
    const { pid } = one;
    if (pid > 0 && !known.has(pid)) known.set(pid, look(pid));
    const patience = known.get(pid) ?? (one.interrupted === true ? PATIENCE.unknown : PATIENCE.none);
    if (patience !== PATIENCE.none) yield [one, patience];
  }
}
