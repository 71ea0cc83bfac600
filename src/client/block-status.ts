// Finds out which parts of an export are data, holes or zeroes, or reads another metadata context.
//
// Used by client.ts. One round is one BLOCK_STATUS. A server may answer less or more than the request asks,
// and the extents of one context may end before those of another: a round counts up to the first such end.

import { E2BIG, EOPNOTSUPP } from '../constants/errno.js';
import { blocksOf } from '../nbd/block-rules.js';
import { type ByteRange, intersection } from '../nbd/byte-range.js';
import { capabilitiesOf } from '../nbd/capabilities.js';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_FLAG_REQ_ONE } from '../nbd/constants.js';
import { NbdError, NbdProtocolError } from '../nbd/errors.js';
import type { ExportInfo } from '../nbd/export-info.js';
import { placeExtents, type RawExtent, statusRequest } from '../nbd/extents.js';
import { printable } from '../nbd/text.js';
import { concat, u32, u64 } from '../nbd/wire.js';
import type { ConnectionPool } from './connection-pool.js';
import type { BlockStatusOptions } from './options.js';

/** Most extents of one context in the result of one call. */
const MAX_GATHERED = 2 ** 20;

/** A run of bytes that a metadata context describes alike. */
export interface Extent {
  /** Byte of the export. */
  readonly offset: bigint;
  /** Bytes, 1 or more. */
  readonly length: bigint;
  /** Flags of the context. For `base:allocation`: `NBD_STATE_HOLE` and `NBD_STATE_ZERO`, or-ed. */
  readonly flags: number;
}

/** Extents in order and without gaps, by the name of their context. */
export type BlockStatus = Record<string, Extent[]>;

interface Round {
  /** Where the next round begins. */
  readonly end: bigint;
  readonly extents: Map<string, Extent[]>;
}

/** The extents of an answer to a request from `offset` on; of them the parts that lie in `clip`. */
function placed(raw: readonly RawExtent[], offset: bigint, clip: ByteRange): Extent[] {
  const extents: Extent[] = [];
  placeExtents(
    offset,
    raw.length,
    (index) => raw[index].length,
    (index, from, to) => {
      const { start, end } = intersection({ start: from, end: to }, clip);
      if (end > start) append(extents, { offset: start, length: end - start, flags: raw[index].flags });
    },
  );
  return extents;
}

/** Adds an extent, or lengthens the last one if its flags are the same. */
function append(extents: Extent[], extent: Extent): void {
  const last = extents.at(-1);
  if (last === undefined || last.flags !== extent.flags) extents.push(extent);
  else extents[extents.length - 1] = { ...last, length: last.length + extent.length };
}

/** The contexts to report. @throws NbdError if none was negotiated, or one of `wanted` was not */
export function checkContexts(
  pool: ConnectionPool,
  wanted: readonly string[] | undefined,
): readonly string[] {
  const agreed = pool.info.metaContexts.map(({ name }) => name);
  if (agreed.length === 0) {
    throw new NbdError('the server reports no block status: no metadata context was negotiated', {
      errno: EOPNOTSUPP,
    });
  }
  const missing = wanted?.find((name) => !agreed.includes(name));
  if (missing !== undefined) {
    throw new NbdError(
      `the metadata context ${printable(missing)} was not negotiated; there are ${printable(agreed.join(', '))}`,
      {
        errno: EOPNOTSUPP,
      },
    );
  }
  return wanted ?? agreed;
}

/**
 * The payload of a BLOCK_STATUS for some of the contexts: its length, and the numbers of the wanted contexts.
 * Undefined if the server takes no such payload, or if all contexts are wanted (extension-ext-header,
 * "NBD_CMD_BLOCK_STATUS").
 */
function filterOf(info: ExportInfo, contexts: readonly string[], length: number): Uint8Array | undefined {
  const wanted = info.metaContexts.filter(({ name }) => contexts.includes(name));
  if (!capabilitiesOf(info).statusPayload || wanted.length === info.metaContexts.length) return undefined;
  return concat(u64(BigInt(length)), ...wanted.map(({ id }) => u32(id)));
}

/** One round: asks once about the beginning of `range`. */
async function ask(
  pool: ConnectionPool,
  range: ByteRange,
  contexts: readonly string[],
  one: boolean,
  signal: AbortSignal | undefined,
): Promise<Round> {
  const { offset, length } = statusRequest(range, blocksOf(pool.info), pool.info.extendedHeaders);
  // The numbers of the contexts belong to the connection.
  const { info, extents } = await pool.onConnection(async (connection) => {
    const payload = filterOf(connection.info, contexts, length);
    const flags = (one ? NBD_CMD_FLAG_REQ_ONE : 0) | (payload === undefined ? 0 : NBD_CMD_FLAG_PAYLOAD_LEN);
    const question = { type: NBD_CMD_BLOCK_STATUS, flags, offset, length, payload };
    const { extents } = await connection.submit(question, signal);
    return { info: connection.info, extents };
  }, signal);
  let until = range.end;
  const raws = contexts.map((name) => {
    const raw = extents.get(info.metaContexts.find((context) => context.name === name)?.id ?? -1);
    if (raw === undefined)
      throw new NbdProtocolError(`the server reported no extents for ${printable(name)}`);
    const reach = raw.reduce((at, extent) => at + extent.length, offset);
    if (reach <= range.start)
      throw new NbdProtocolError('the server reported the status of none of the requested bytes');
    if (reach < until) until = reach;
    return [name, raw] as const;
  });
  const clip = { start: range.start, end: until };
  return { end: until, extents: new Map(raws.map(([name, raw]) => [name, placed(raw, offset, clip)])) };
}

function tooMany(name: string): NbdError {
  const message = `the range has more than ${MAX_GATHERED} extents of ${printable(name)}: iterate over them with extents()`;
  return new NbdError(message, { errno: E2BIG });
}

/** The extents of a whole range; with `one` or `partial`, only those of one answer. */
export async function blockStatus(
  pool: ConnectionPool,
  range: ByteRange,
  contexts: readonly string[],
  { one = false, partial = false, signal }: BlockStatusOptions,
): Promise<BlockStatus> {
  const found = new Map<string, Extent[]>(contexts.map((name) => [name, []]));
  for (let start = range.start; start < range.end; ) {
    const round = await ask(pool, { start, end: range.end }, contexts, one, signal);
    for (const [name, extents] of round.extents) {
      const all = found.get(name) ?? [];
      for (const extent of extents) append(all, extent);
      if (all.length > MAX_GATHERED) throw tooMany(name);
    }
    if (one || partial) break;
    start = round.end;
  }
  return Object.fromEntries(found);
}

/** The extents of one context, one after the other. Sends the next request when the caller has used up the last answer. */
export async function* iterateExtents(
  pool: ConnectionPool,
  range: ByteRange,
  context: string,
  signal?: AbortSignal,
): AsyncGenerator<Extent, void, undefined> {
  let last: Extent | undefined;
  for (let start = range.start; start < range.end; ) {
    const round = await ask(pool, { start, end: range.end }, [context], false, signal);
    const extents = last === undefined ? [] : [last];
    for (const extent of round.extents.get(context) ?? []) append(extents, extent);
    // The next answer may continue the last one.
    last = extents.pop();
    yield* extents;
    start = round.end;
  }
  if (last !== undefined) yield last;
}
