// What can be seen of a file that is being served: its server, its connections, what was done for it.
//
// Made when somebody asks, from numbers that are counted anyway.

import { errnoName } from '../../linux/errno.js';
import { NBD_FLAG_CAN_MULTI_CONN } from '../../nbd/constants.js';
import { hasFlag } from '../../nbd/export-info.js';
import { transmissionFlagNames } from '../../nbd/names.js';
import type { Disk } from '../disk/disk.js';
import type { CacheMode } from '../fuse/metadata.js';
import { COUNTER, LATENCIES, percentile } from '../stats/counters.js';

/** What a status tells that the worker does not know of itself. */
export interface StatusContext {
  /** Requests of the kernel for this file that are under way. */
  readonly inFlight: number;
  /** False: the file has no connections because nobody has opened it. */
  readonly inUse: boolean;
  readonly cache: CacheMode;
  /** Seconds since the file is served. */
  readonly uptime: number;
  /** How the user named the server, and whether the way to it is encrypted. */
  readonly server: string;
  readonly tls: boolean;
  /** The readers that have a connection. */
  readonly readers: readonly { readonly connection: number; readonly inFlight: number }[];
  /** What readers have done for the file: see COUNTER. */
  readonly readersCounters: readonly Float64Array[];
}

/** Requests of one kind. */
export interface RequestStatus {
  readonly count: number;
  readonly bytes: number;
  /** Microseconds within which so many in a hundred were answered, rounded up to a power of two. */
  readonly p50: number;
  readonly p99: number;
  /** How many were answered in less than 2^i microseconds, and not in less than 2^(i-1). */
  readonly histogram: readonly number[];
}

/** Everything that is told of a file. */
export interface Status {
  readonly pid: number;
  /** Seconds. */
  readonly uptime: number;
  readonly server: string;
  readonly tls: boolean;
  readonly export: string;
  /** Bytes, in decimal digits: up to 2^63-1. */
  readonly size: string;
  readonly readOnly: boolean;
  readonly cache: CacheMode;
  /** `connected`, `reconnecting`, `idle` where the file is not open, or the errno that requests fail with. */
  readonly state: string;
  /** That take requests of the kernel, or would if there were more to do. */
  readonly threads: number;
  readonly connections: readonly { readonly number: number; readonly inFlight: number }[];
  readonly handshake: string;
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
  readonly multiConn: boolean;
  readonly flags: readonly string[];
  readonly metaContexts: readonly string[];
  /** Bytes. */
  readonly blockSizes: { readonly minimum: number; readonly maximum: number };
  readonly reads: RequestStatus;
  readonly writes: RequestStatus;
  readonly flushes: number;
  readonly zeroes: number;
  readonly errors: number;
  readonly inFlight: number;
  /** Bytes over the network. */
  readonly received: number;
  readonly sent: number;
  /** Bytes written that the server has answered and that no flush has covered. */
  readonly unflushed: number;
  /** Requests that wait for others of the same bytes to end. */
  readonly waitingForOthers: number;
  /** Changes that were sent on lost connections, and may still be made as far as is known. */
  readonly unproven: number;
  /** Bytes, but for the hits. */
  readonly readAhead: { readonly fetched: number; readonly hits: number; readonly wasted: number };
  readonly lostConnections: number;
  readonly sentAgain: number;
}

function requests(counters: Float64Array, count: number, bytes: number, latency: number): RequestStatus {
  const histogram = [...counters.subarray(latency, latency + LATENCIES)];
  const last = histogram.findLastIndex((value) => value > 0);
  return {
    count: counters[count],
    bytes: counters[bytes],
    p50: percentile(histogram, 0.5),
    p99: percentile(histogram, 0.99),
    histogram: histogram.slice(0, last + 1),
  };
}

function stateOf(disk: Disk, inUse: boolean): string {
  if (!inUse) return 'idle';
  if (disk.connections.length > 0) return 'connected';
  return disk.failing === 0 ? 'reconnecting' : errnoName(disk.failing);
}

/** The status of one file. */
export function statusOf(disk: Disk, context: StatusContext): Status {
  const { inUse, cache, uptime, server, tls, readers, readersCounters } = context;
  const { info } = disk;
  const counters = disk.counters.map((own, i) => readersCounters.reduce((sum, one) => sum + one[i], own));
  const inFlight = readers.reduce((sum, one) => sum + one.inFlight, context.inFlight);
  const connections = [
    ...disk.connections.map(({ number, inFlight }) => ({ number, inFlight })),
    ...readers.map(({ connection, inFlight }) => ({ number: connection, inFlight })),
  ];
  return {
    pid: process.pid,
    uptime,
    server,
    tls,
    export: info.name,
    size: String(info.size),
    readOnly: disk.node.readOnly,
    cache,
    state: stateOf(disk, inUse),
    threads: 1 + readers.length,
    connections,
    handshake: info.handshake,
    structuredReplies: info.structuredReplies,
    extendedHeaders: info.extendedHeaders,
    multiConn: hasFlag(info, NBD_FLAG_CAN_MULTI_CONN),
    flags: transmissionFlagNames(info.flags),
    metaContexts: info.metaContexts.map(({ name }) => name),
    blockSizes: { minimum: disk.minimum, maximum: disk.maximum },
    reads: requests(counters, COUNTER.reads, COUNTER.readBytes, COUNTER.readLatency),
    writes: requests(counters, COUNTER.writes, COUNTER.writtenBytes, COUNTER.writeLatency),
    flushes: counters[COUNTER.flushes],
    zeroes: counters[COUNTER.zeroes],
    errors: counters[COUNTER.errors],
    inFlight,
    received: counters[COUNTER.socketIn],
    sent: counters[COUNTER.socketOut],
    unflushed: disk.unflushed.list().reduce((sum, { length }) => sum + length, 0),
    waitingForOthers: disk.waitingForOthers,
    unproven: disk.lost.count,
    readAhead: {
      fetched: counters[COUNTER.prefetched],
      hits: counters[COUNTER.prefetchHits],
      wasted: counters[COUNTER.prefetchWaste],
    },
    lostConnections: counters[COUNTER.lostConnections],
    sentAgain: counters[COUNTER.replays],
  };
}
