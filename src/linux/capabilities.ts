// The capability to administer the whole system.

import { readFileSync, readlinkSync } from 'node:fs';

/** The user namespace of the system itself has this number on every Linux. */
const FIRST_NAMESPACE = 'user:[4026531837]';

/** Number of the capability SYS_ADMIN. */
const SYS_ADMIN = 21n;

/** Whether the text of /proc/PID/status says that the process has SYS_ADMIN in its user namespace. */
export function hasSysAdmin(status: string): boolean {
  const digits = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return digits !== undefined && ((BigInt(`0x${digits}`) >> SYS_ADMIN) & 1n) === 1n;
}

/** Whether this process has SYS_ADMIN in the first user namespace: root of a container may not. */
export function administersSystem(): boolean {
  try {
    const isFirst = readlinkSync('/proc/self/ns/user') === FIRST_NAMESPACE;
    return isFirst && hasSysAdmin(readFileSync('/proc/self/status', 'utf8'));
  } catch {
    return false;
  }
}
