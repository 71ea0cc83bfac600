// Tells a status from other JSON: any user may make a file with an attribute of that name. Pure.

import type { ChunkStatus } from '../../chunks/contract/status.js';
import { printable } from '../../nbd/text.js';
import { isObject, withPresentNames } from '../../worker/contract/former-names.js';
import type { PassthroughStatus, RequestStatus, Status, WaitStatus } from '../../worker/contract/status.js';

type Check = (value: unknown) => boolean;

/** Longest list: no mount has more connections, flags, contexts, or powers of two in a histogram. */
const LONGEST_LIST = 100_000;

const text: Check = (value) => typeof value === 'string';
const flag: Check = (value) => typeof value === 'boolean';
/** JSON may hold numbers beyond the range of a double, which become infinite. */
const number: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const digits: Check = (value) => typeof value === 'string' && /^\d{1,19}$/.test(value);
const cache: Check = (value) => value === 'writeback' || value === 'writethrough' || value === 'none';

const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.length <= LONGEST_LIST && value.every(check);

function shaped<T>(shape: Readonly<Record<keyof T & string, Check>>): Check {
  return (value) => {
    if (!isObject(value)) return false;
    const members = new Map<string, unknown>(Object.entries(value));
    return Object.entries<Check>(shape).every(([name, check]) => check(members.get(name)));
  };
}

const requests = shaped<RequestStatus>({
  count: number,
  bytes: number,
  errors: number,
  seconds: number,
  p50: number,
  p99: number,
  histogram: listOf(number),
});

const wait = shaped<WaitStatus>({
  reason: text,
  count: number,
  total: optional(number),
  start: optional(digits),
  end: optional(digits),
  secondsLeft: optional(number),
  seconds: optional(number),
});

const indexing = optional(shaped<NonNullable<ChunkStatus['indexing']>>({ done: number, all: number }));
const prefetch = optional(
  shaped<NonNullable<ChunkStatus['prefetch']>>({ done: number, all: number, stopped: optional(text) }),
);

const chunks = shaped<ChunkStatus>({
  size: optional(number),
  memory: shaped<ChunkStatus['memory']>({ used: number, limit: number }),
  file: optional(
    shaped<NonNullable<ChunkStatus['file']>>({
      path: text,
      used: number,
      limit: optional(number),
      complete: flag,
    }),
  ),
  indexing,
  prefetch,
  hits: number,
  misses: number,
  fetched: number,
});

const status = shaped<Status>({
  version: text,
  pid: number,
  processStart: optional(number),
  pidNamespace: optional(number),
  uptime: number,
  server: text,
  tls: flag,
  export: text,
  size: digits,
  readOnly: flag,
  cache,
  passthrough: optional(shaped<PassthroughStatus>({ active: flag, why: optional(text) })),
  state: text,
  threads: number,
  connections: listOf(shaped<Status['connections'][number]>({ number, inFlight: number })),
  handshake: text,
  structuredReplies: flag,
  extendedHeaders: flag,
  canMultiConn: flag,
  flags: listOf(text),
  metaContexts: listOf(text),
  blockSizes: shaped<Status['blockSizes']>({ minimum: number, maximum: number }),
  reads: requests,
  writes: requests,
  flushes: number,
  writeZeroes: number,
  errors: number,
  serverErrors: number,
  inFlight: number,
  bytesReceived: number,
  bytesSent: number,
  unflushedBytes: number,
  blockedByOverlap: number,
  blockedByProof: number,
  unresolvedWrites: number,
  waits: listOf(wait),
  writebackErrors: number,
  chunks: optional(chunks),
  readAhead: shaped<Status['readAhead']>({ fetched: number, hits: number, unused: number }),
  cacheFileReads: number,
  lostConnections: number,
  retriedRequests: number,
  partition: optional(number),
  offset: optional(digits),
  type: optional(text),
  label: optional(text),
  uuid: optional(text),
});

/** Fields that older versions lack. */
const ADDED_LATER = {
  version: '',
  serverErrors: 0,
  blockedByOverlap: 0,
  blockedByProof: 0,
  unresolvedWrites: 0,
  waits: [],
  writebackErrors: 0,
  cacheFileReads: 0,
} satisfies Partial<Status>;

/** Requests of one kind, of any version. */
const withLaterFields = (requests: unknown): unknown =>
  isObject(requests) ? { errors: 0, seconds: 0, ...requests } : requests;

/** A status of any version. */
function completed(parsed: unknown): unknown {
  if (!isObject(parsed)) return parsed;
  const value = { ...ADDED_LATER, ...withPresentNames(parsed) };
  return { ...value, reads: withLaterFields(parsed.reads), writes: withLaterFields(parsed.writes) };
}

/** Parses a status; undefined when the text is not one. */
export function parseStatus(json: string): Status | undefined {
  try {
    const value = completed(JSON.parse(json));
    return status(value) ? (value as Status) : undefined;
  } catch {
    return undefined;
  }
}

/** The same status with every text made printable. */
export function printableStatus(raw: Status): Status {
  const fit = (_: string, value: unknown): unknown => (typeof value === 'string' ? printable(value) : value);
  return JSON.parse(JSON.stringify(raw), fit) as Status;
}
