// The former names of status fields. Programs that read JSON or attributes find both names, for now. Pure.

import type { Status } from './status.js';

type Members = Readonly<Record<string, unknown>>;

const FORMER_NAMES = [
  ['multiConn', 'canMultiConn'],
  ['zeroes', 'writeZeroes'],
  ['received', 'bytesReceived'],
  ['sent', 'bytesSent'],
  ['unflushed', 'unflushedBytes'],
  ['waitingForOthers', 'blockedByOverlap'],
  ['unproven', 'unresolvedWrites'],
  ['sentAgain', 'retriedRequests'],
] as const satisfies readonly (readonly [former: string, name: keyof Status])[];

/** A status for programs: each renamed field has both names, with the value of its time. */
export function withFormerNames(status: Status): Status & Members {
  const former = FORMER_NAMES.map(([was, name]) => [was, status[name]] as const);
  const readAhead = { ...status.readAhead, wasted: status.readAhead.unused };
  // The former field counted both kinds of waits.
  const waitingForOthers = status.blockedByOverlap + status.blockedByProof;
  return { ...status, readAhead, ...Object.fromEntries(former), waitingForOthers };
}

/** Whether a value of JSON is an object or an array. */
export const isObject = (value: unknown): value is Members => typeof value === 'object' && value !== null;

/** A status of any version, not checked yet, with the present names too. */
export function withPresentNames(status: Members): Members {
  const present = FORMER_NAMES.filter(([was]) => was in status).map(
    ([was, name]) => [name, status[was]] as const,
  );
  const { readAhead } = status;
  const ahead = isObject(readAhead) ? { readAhead: { unused: readAhead.wasted, ...readAhead } } : {};
  return { ...Object.fromEntries(present), ...status, ...ahead };
}
