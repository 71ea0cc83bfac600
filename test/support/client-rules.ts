// The rules of doc/proto.md for a client's requests, each as a predicate of one request.
//
// Used by tests with a scripted server: `watch` records every request with the negotiated terms, and each rule
// then checks all of them. Numbers stand as in the NBD specification; nothing comes from src.

import type { Agreed, ScriptedExport } from './scripted-handshake.js';
import { DEFAULT_FLAGS } from './scripted-handshake.js';
import type { RequestHandler } from './scripted-server.js';
import type { ScriptedRequest } from './scripted-wire.js';

/** A request and the terms of its connection. */
export interface Observed {
  readonly request: ScriptedRequest;
  readonly served: ScriptedExport;
  readonly agreed: Agreed;
  /** Whether another request of this connection with the same cookie has no reply yet. */
  readonly cookieInUse: boolean;
}

/** One rule. */
export interface ClientRule {
  /** The section and the rule: a test's title. */
  readonly title: string;
  /** Whether the rule applies to this request. */
  readonly applies: (seen: Observed) => boolean;
  readonly holds: (seen: Observed) => boolean;
  /** A request that breaks it. */
  readonly breach: { readonly request: Partial<ScriptedRequest>; readonly served?: Partial<ScriptedExport> };
}

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN] = [1, 2, 4, 8, 16, 32];
const FLAG = { flush: 1 << 2, fua: 1 << 3, trim: 1 << 5, zeroes: 1 << 6, df: 1 << 7 };
const MORE = { cache: 1 << 10, fastZero: 1 << 11, statusPayload: 1 << 12 };
const DEFAULT_MAXIMUM = 32 * 1024 * 1024;

const ALLOWED = new Map([
  [READ, DF],
  [WRITE, FUA | PAYLOAD_LEN],
  [DISC, 0],
  [FLUSH, 0],
  [TRIM, FUA],
  [CACHE, 0],
  [ZEROES, FUA | NO_HOLE | FAST_ZERO],
  [STATUS, REQ_ONE | PAYLOAD_LEN],
]);

const is =
  (...types: readonly number[]) =>
  ({ request }: Observed): boolean =>
    types.includes(request.type);
const has =
  (flag: number) =>
  ({ request }: Observed): boolean =>
    (request.flags & flag) !== 0;
const exports =
  (flag: number) =>
  ({ served }: Observed): boolean =>
    ((served.flags ?? DEFAULT_FLAGS) & flag) !== 0;
const isRanged = is(READ, WRITE, TRIM, CACHE, ZEROES, STATUS);

/** The bytes that a request covers. */
function effect({ request }: Observed): number {
  return request.type === STATUS && request.payload.length > 0
    ? Number(request.payload.readBigUInt64BE(0))
    : request.length;
}

/** Whether both ends are multiples of a block; the end of the export counts as one. */
function isAligned(seen: Observed, block: number): boolean {
  const { offset } = seen.request;
  const end = offset + BigInt(effect(seen));
  return offset % BigInt(block) === 0n && (end % BigInt(block) === 0n || end === seen.served.size);
}

const needs = (
  title: string,
  applies: ClientRule['applies'],
  flag: number,
  breach: Partial<ScriptedRequest>,
) => ({
  title,
  applies,
  holds: exports(flag),
  breach: { request: breach, served: { flags: 1 } },
});

export const CLIENT_RULES: readonly ClientRule[] = [
  {
    title: '"Request types": a command is one of those of the document',
    applies: () => true,
    holds: ({ request }) => ALLOWED.has(request.type),
    breach: { request: { type: 8 } },
  },
  {
    title: '"Command flags": a command has no flag that is not documented for it',
    applies: () => true,
    holds: ({ request }) => (request.flags & ~(ALLOWED.get(request.type) ?? 0)) === 0,
    breach: { request: { type: FLUSH, flags: FUA } },
  },
  needs('"Transmission flags": FUA is set only where NBD_FLAG_SEND_FUA is', has(FUA), FLAG.fua, {
    type: WRITE,
    flags: FUA,
  }),
  needs('"Transmission flags": DF is set only where NBD_FLAG_SEND_DF is', has(DF), FLAG.df, {
    type: READ,
    flags: DF,
  }),
  needs(
    '"Transmission flags": FAST_ZERO is set only where NBD_FLAG_SEND_FAST_ZERO is',
    has(FAST_ZERO),
    MORE.fastZero,
    { type: ZEROES, flags: FAST_ZERO },
  ),
  needs('"NBD_CMD_FLUSH": sent only where NBD_FLAG_SEND_FLUSH is set', is(FLUSH), FLAG.flush, {
    type: FLUSH,
  }),
  needs('"NBD_CMD_TRIM": sent only where NBD_FLAG_SEND_TRIM is set', is(TRIM), FLAG.trim, { type: TRIM }),
  needs('"NBD_CMD_WRITE_ZEROES": sent only where its flag is set', is(ZEROES), FLAG.zeroes, { type: ZEROES }),
  needs('"Transmission flags": CACHE is sent only where NBD_FLAG_SEND_CACHE is set', is(CACHE), MORE.cache, {
    type: CACHE,
  }),
  {
    title: '"NBD_CMD_BLOCK_STATUS": sent only where a metadata context was selected',
    applies: is(STATUS),
    holds: ({ agreed }) => agreed.contexts.length > 0 && agreed.structured,
    breach: { request: { type: STATUS } },
  },
  {
    title: '"Request message" (extended headers): a WRITE has PAYLOAD_LEN, and nothing has it without them',
    applies: is(READ, WRITE),
    holds: ({ request, agreed }) =>
      ((request.flags & PAYLOAD_LEN) !== 0) === (request.type === WRITE && agreed.extended),
    breach: { request: { type: WRITE, flags: PAYLOAD_LEN } },
  },
  {
    title: '"NBD_CMD_BLOCK_STATUS" (extended headers): a payload of 8 + 4n bytes, where the flag allows it',
    applies: (seen) => is(STATUS)(seen) && has(PAYLOAD_LEN)(seen),
    holds: (seen) => {
      const { payload } = seen.request;
      const ids = Array.from({ length: (payload.length - 8) / 4 }, (_, i) => payload.readUInt32BE(8 + 4 * i));
      const isKnown = ids.every((id, i) => seen.agreed.contexts.includes(id) && ids.indexOf(id) === i);
      return exports(MORE.statusPayload)(seen) && ids.length > 0 && isKnown;
    },
    breach: { request: { type: STATUS, flags: PAYLOAD_LEN, length: 12, payload: Buffer.alloc(12) } },
  },
  {
    title: '"NBD_CMD_FLUSH": offset and length are zero',
    applies: is(FLUSH),
    holds: ({ request }) => request.offset === 0n && request.length === 0,
    breach: { request: { type: FLUSH, length: 512 } },
  },
  {
    title: '"NBD_CMD_DISC": offset and length are zero',
    applies: is(DISC),
    holds: ({ request }) => request.offset === 0n && request.length === 0,
    breach: { request: { type: DISC, offset: 512n } },
  },
  {
    title: '"NBD_CMD_READ" and the others: no request is of length 0',
    applies: isRanged,
    holds: (seen) => effect(seen) > 0,
    breach: { request: { type: READ, length: 0 } },
  },
  {
    title: '"Size constraints": offset plus length do not exceed the export',
    applies: isRanged,
    holds: (seen) => seen.request.offset + BigInt(effect(seen)) <= seen.served.size,
    breach: { request: { type: READ, offset: 2n ** 40n, length: 512 } },
  },
  {
    title: '"Size constraints": a payload is not larger than the maximum, advertised or 32 MiB',
    applies: is(READ, WRITE),
    holds: ({ request, served }) => request.length <= (served.blockSizes?.[2] ?? DEFAULT_MAXIMUM),
    breach: { request: { type: READ, length: DEFAULT_MAXIMUM + 1 } },
  },
  {
    // A tail shorter than a block can only be requested alone.
    title:
      '"Size constraints": offset and length are multiples of an advertised minimum block size; the rest at the end goes alone',
    applies: (seen) => isRanged(seen) && seen.served.blockSizes !== undefined,
    holds: (seen) => {
      const block = BigInt(seen.served.blockSizes?.[0] ?? 1);
      const end = seen.request.offset + BigInt(effect(seen));
      const isTail = end === seen.served.size && seen.request.offset === end - (end % block);
      return seen.request.offset % block === 0n && (end % block === 0n || isTail);
    },
    breach: {
      request: { type: READ, offset: 1n, length: 4096 },
      served: { blockSizes: [4096, 4096, 65_536] },
    },
  },
  {
    title: '"Size constraints": without an advertised minimum, requests are multiples of 512',
    applies: (seen) => isRanged(seen) && seen.served.blockSizes === undefined,
    holds: (seen) => isAligned(seen, 512),
    breach: { request: { type: READ, offset: 1n, length: 4096 } },
  },
  {
    title: '"Transmission": a cookie is not that of another request in flight',
    applies: () => true,
    holds: ({ cookieInUse }) => !cookieInUse,
    breach: { request: { type: READ, cookie: 99n } },
  },
];

/** A handler that notes every request before `inner` answers it. */
export function watch(served: ScriptedExport, seen: Observed[], inner: RequestHandler): RequestHandler {
  const inFlight = new Map<number, Set<bigint>>();
  return async (request, reply) => {
    const cookies = inFlight.get(request.connection) ?? new Set();
    inFlight.set(request.connection, cookies);
    seen.push({ request, served, agreed: reply.agreed, cookieInUse: cookies.has(request.cookie) });
    cookies.add(request.cookie);
    await inner(request, reply);
    cookies.delete(request.cookie);
  };
}
