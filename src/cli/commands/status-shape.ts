// Whether what a file says of itself is a status: it may be any user's file, who may write anything there. Pure.

import { printable } from '../../nbd/text.js';
import type { RequestStatus, Status } from '../../worker/contract/status.js';

type Check = (value: unknown) => boolean;

/** More than a mount has of anything: connections, flags, contexts, powers of two in a histogram. */
const LONGEST_LIST = 100_000;

const text: Check = (value) => typeof value === 'string';
const flag: Check = (value) => typeof value === 'boolean';
/** JSON can name numbers beyond a double's, which become infinite. */
const number: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const digits: Check = (value) => typeof value === 'string' && /^\d{1,19}$/.test(value);
const cache: Check = (value) => value === 'writeback' || value === 'writethrough' || value === 'none';

const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.length <= LONGEST_LIST && value.every(check);

function shaped<T>(shape: Readonly<Record<keyof T & string, Check>>): Check {
  return (value) => {
    if (typeof value !== 'object' || value === null) return false;
    const members = new Map<string, unknown>(Object.entries(value));
    return Object.entries<Check>(shape).every(([name, check]) => check(members.get(name)));
  };
}

const requests = shaped<RequestStatus>({
  count: number,
  bytes: number,
  p50: number,
  p99: number,
  histogram: listOf(number),
});

const status = shaped<Status>({
  pid: number,
  uptime: number,
  server: text,
  tls: flag,
  export: text,
  size: digits,
  readOnly: flag,
  cache,
  state: text,
  threads: number,
  connections: listOf(shaped<Status['connections'][number]>({ number, inFlight: number })),
  handshake: text,
  structuredReplies: flag,
  extendedHeaders: flag,
  multiConn: flag,
  flags: listOf(text),
  metaContexts: listOf(text),
  blockSizes: shaped<Status['blockSizes']>({ minimum: number, maximum: number }),
  reads: requests,
  writes: requests,
  flushes: number,
  zeroes: number,
  errors: number,
  inFlight: number,
  received: number,
  sent: number,
  unflushed: number,
  waitingForOthers: number,
  unproven: number,
  readAhead: shaped<Status['readAhead']>({ fetched: number, hits: number, wasted: number }),
  lostConnections: number,
  sentAgain: number,
});

/** What a mount of an older version does not tell. */
const ADDED_LATER = { waitingForOthers: 0, unproven: 0 } satisfies Partial<Status>;

/** The status that a text is, or undefined. */
export function parseStatus(json: string): Status | undefined {
  try {
    const parsed: unknown = JSON.parse(json);
    const value = typeof parsed === 'object' ? { ...ADDED_LATER, ...parsed } : parsed;
    return status(value) ? (value as Status) : undefined;
  } catch {
    return undefined;
  }
}

/** A status whose texts are fit for a terminal, all of them. */
export function printableStatus(raw: Status): Status {
  const fit = (_: string, value: unknown): unknown => (typeof value === 'string' ? printable(value) : value);
  return JSON.parse(JSON.stringify(raw), fit) as Status;
}
