// Makes the status of the files that a worker shows, counts of read threads included.
//
// Computed on demand, from the counters.

import type { ChunkStatus } from '../chunks/contract/status.js';
import { errnoName } from '../constants/errno-names.js';
import { ownIdentity, type ProcessIdentity } from '../linux/process.js';
import { transmissionFlagNames } from '../nbd/names.js';
import type { WorkerSettings } from './contract/messages.js';
import type { CacheMode, FileStatus, RequestStatus, Status, WaitStatus } from './contract/status.js';
import type { Disk } from './disk/disk.js';
import type { Wait } from './disk/waits.js';
import type { DiskPart } from './fuse/disk-parts.js';
import type { Files } from './fuse/files.js';
import type { Passthrough } from './fuse/passthrough.js';
import type { ReadThreads } from './read-threads/read-threads.js';
import type { Engine } from './request/engine.js';
import { COUNTER, LATENCIES, percentile } from './stats/counters.js';

/** The parts of a file's status that its `Disk` does not have. */
export interface StatusContext {
  /** The kernel's requests for this file in flight. */
  readonly inFlight: number;
  /** False: the file has no connections because nobody has opened it. */
  readonly inUse: boolean;
  readonly version: string;
  readonly identity: ProcessIdentity | undefined;
  readonly cache: CacheMode;
  readonly passthrough: Passthrough | undefined;
  /** Seconds since the file is served. */
  readonly uptime: number;
  /** The server as the user named it, and whether the connection is encrypted. */
  readonly server: string;
  readonly tls: boolean;
  /** The read threads that have a connection. */
  readonly readThreads: readonly { readonly connection: number; readonly inFlight: number }[];
  /** The counters of the read threads for the file: see COUNTER. */
  readonly readThreadCounters: readonly Float64Array[];
}

/** The indices of the counters of one kind of requests. */
interface RequestCounters {
  readonly count: number;
  readonly bytes: number;
  readonly errors: number;
  readonly seconds: number;
  readonly latency: number;
}

const READS: RequestCounters = {
  count: COUNTER.reads,
  bytes: COUNTER.readBytes,
  errors: COUNTER.failedReads,
  seconds: COUNTER.readSeconds,
  latency: COUNTER.readLatency,
};

const WRITES: RequestCounters = {
  count: COUNTER.writes,
  bytes: COUNTER.writtenBytes,
  errors: COUNTER.failedWrites,
  seconds: COUNTER.writeSeconds,
  latency: COUNTER.writeLatency,
};

function requests(counters: Float64Array, index: RequestCounters): RequestStatus {
  const histogram = [...counters.subarray(index.latency, index.latency + LATENCIES)];
  const last = histogram.findLastIndex((value) => value > 0);
  return {
    count: counters[index.count],
    bytes: counters[index.bytes],
    errors: counters[index.errors],
    seconds: counters[index.seconds],
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

function waitStatus({ bytes, ...wait }: Wait): WaitStatus {
  return bytes === undefined ? wait : { ...wait, start: String(bytes.start), end: String(bytes.end) };
}

/** The status of one file. */
export function statusOf(disk: Disk, context: StatusContext): Status {
  const { identity, inUse, cache, passthrough, uptime, server, tls, readThreads, readThreadCounters } =
    context;
  const { info } = disk;
  const counters = disk.counters.map((own, i) => readThreadCounters.reduce((sum, one) => sum + one[i], own));
  const inFlight = readThreads.reduce((sum, one) => sum + one.inFlight, context.inFlight);
  const connections = [
    ...disk.connections.map(({ number, inFlight }) => ({ number, inFlight })),
    ...readThreads.map(({ connection, inFlight }) => ({ number: connection, inFlight })),
  ];
  return {
    version: context.version,
    pid: process.pid,
    ...(identity && { processStart: identity.start, pidNamespace: identity.pidNamespace }),
    uptime,
    server,
    tls,
    export: info.name,
    size: String(info.size),
    readOnly: disk.node.readOnly,
    cache,
    ...(passthrough === undefined ? {} : { passthrough: passthrough.status(disk) }),
    state: stateOf(disk, inUse),
    threads: 1 + readThreads.length,
    connections,
    handshake: info.handshake,
    structuredReplies: info.structuredReplies,
    extendedHeaders: info.extendedHeaders,
    canMultiConn: disk.can.multiConn,
    flags: transmissionFlagNames(info.flags),
    metaContexts: info.metaContexts.map(({ name }) => name),
    blockSizes: { minimum: disk.minimum, maximum: disk.payload.of(false) },
    reads: requests(counters, READS),
    writes: requests(counters, WRITES),
    flushes: counters[COUNTER.flushes],
    writeZeroes: counters[COUNTER.zeroes],
    errors: counters[COUNTER.failedReads] + counters[COUNTER.failedWrites] + counters[COUNTER.failedOthers],
    serverErrors: counters[COUNTER.serverErrors],
    inFlight,
    bytesReceived: counters[COUNTER.socketIn],
    bytesSent: counters[COUNTER.socketOut],
    unflushedBytes: disk.unflushed.list().reduce((sum, { length }) => sum + length, 0),
    blockedByOverlap: disk.blockedByOverlap,
    blockedByProof: disk.blockedByProof,
    unresolvedWrites: disk.lost.count,
    waits: disk.waits.map(waitStatus),
    writebackErrors: disk.node.errors.count,
    readAhead: {
      fetched: counters[COUNTER.prefetched],
      hits: counters[COUNTER.prefetchHits],
      unused: counters[COUNTER.prefetchWaste],
    },
    cacheFileReads: counters[COUNTER.cacheFileReads],
    lostConnections: counters[COUNTER.lostConnections],
    retriedRequests: counters[COUNTER.replays],
  };
}

/** The fields in which the status of a part differs from that of its disk. */
function partStatus({ description }: DiskPart): Partial<Status> {
  const { number, offset, size, type, label, uuid } = description;
  return { size: String(size), partition: number, offset: String(offset), type, label, uuid };
}

/** See the file's head. */
export class StatusReporter {
  readonly #settings: Pick<WorkerSettings, 'cache' | 'version'>;
  readonly #engine: Engine;
  readonly #files: Files;
  readonly #readThreads: ReadThreads | undefined;
  readonly #passthrough: Passthrough | undefined;
  readonly #startedAt: number;
  /** Read once, at the first status: it takes system calls, and never changes. */
  #identity: ProcessIdentity | undefined;
  /** The state of the chunk server behind each file that has one. */
  readonly chunks = new Map<number, ChunkStatus>();

  constructor(
    settings: Pick<WorkerSettings, 'cache' | 'version'>,
    engine: Engine,
    files: Files,
    readThreads: ReadThreads | undefined,
    passthrough: Passthrough | undefined,
  ) {
    this.#settings = settings;
    this.#passthrough = passthrough;
    this.#engine = engine;
    this.#startedAt = engine.now();
    this.#files = files;
    this.#readThreads = readThreads;
  }

  /** The status of every file that is in use. */
  all(): readonly FileStatus[] {
    return this.#files.disks.map((disk) => ({ file: disk.index, status: this.#of(disk) }));
  }

  /** Returns a function that makes the status of a node, if it is a file. */
  ofNode(nodeid: number): (() => Status) | undefined {
    const part = this.#files.parts.get(nodeid);
    if (part !== undefined) return () => ({ ...this.#of(part.disk), ...partStatus(part) });
    const disk = this.#files.diskForStatus(nodeid);
    return disk === undefined ? undefined : () => this.#of(disk);
  }

  #of(disk: Disk): Status {
    const entry = this.#files.entry(disk.index);
    const { server = '', tls = false } = entry?.file ?? {};
    const chunks = this.chunks.get(disk.index);
    this.#identity ??= ownIdentity();
    const status = statusOf(disk, {
      inFlight: this.#engine.requests.inFlightOn(disk),
      inUse: entry?.disk === disk,
      version: this.#settings.version,
      identity: this.#identity,
      cache: this.#settings.cache,
      passthrough: this.#passthrough,
      uptime: Math.round((this.#engine.now() - this.#startedAt) / 1000),
      server,
      tls,
      readThreads: this.#readThreads?.connected ?? [],
      readThreadCounters: this.#readThreads?.counters ?? [],
    });
    return chunks === undefined ? status : { ...status, chunks };
  }
}
