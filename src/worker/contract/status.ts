// The status of a file: the server, its connections, and counts of requests. Shown by --status and `user.nbd.*`.

import type { ChunkStatus } from '../../chunks/contract/status.js';

/** How the kernel caches file data: see `--cache`. */
export type CacheMode = 'writeback' | 'writethrough' | 'none';

/** Requests of one kind: all but `errors` are about those that succeeded. */
export interface RequestStatus {
  readonly count: number;
  readonly bytes: number;
  /** Requests that failed. */
  readonly errors: number;
  /** Sum of the latencies, in seconds. */
  readonly seconds: number;
  /** Percentiles of the latency in microseconds, rounded up to a power of two. */
  readonly p50: number;
  readonly p99: number;
  /** Element i: number of requests with a latency of at least 2^(i-1) and less than 2^i microseconds. */
  readonly histogram: readonly number[];
}

/** One reason for which requests or new connections wait. */
export interface WaitStatus {
  /**
   * `overlap`: requests wait for an older one of the same bytes. `proof`: changes wait for proof about an older one on
   * a lost connection. `replay`: unflushed writes are sent again. `identity`: new connections wait for the check of
   * the disk. `flush`: new connections wait for a FLUSH on an older one. `connection`: requests wait for a connection.
   */
  readonly reason: string;
  /** Number of requests, of writes without a reply (`replay`), or of connections (`identity`, `flush`). */
  readonly count: number;
  /** Of `replay`: the number of all writes. */
  readonly total?: number;
  /** Of `overlap` and `proof`: the bytes [start, end) of the oldest change that they wait for, in decimal digits. */
  readonly start?: string;
  readonly end?: string;
  /** Of `proof`: seconds until the first request fails. */
  readonly secondsLeft?: number;
  /** Of `connection`: seconds since the last connection was lost. */
  readonly seconds?: number;
}

/** Whether programs that open the file now let the kernel read a local file without nbdfuse. */
export interface PassthroughStatus {
  readonly active: boolean;
  /** Why not. */
  readonly why?: string;
}

/** The status of a mount, as `nbdfuse --status` prints it. */
export interface Status {
  /** Of the program that serves the mount; empty where it is too old to say so. */
  readonly version: string;
  readonly pid: number;
  /** Start time of the process in ticks since the boot of the system, and its PID namespace; undefined: unknown. */
  readonly processStart?: number;
  readonly pidNamespace?: number;
  /** Seconds. */
  readonly uptime: number;
  readonly server: string;
  readonly tls: boolean;
  readonly export: string;
  /** Bytes, in decimal digits: up to 2^63-1. */
  readonly size: string;
  readonly readOnly: boolean;
  readonly cache: CacheMode;
  /** Only with a cache file. */
  readonly passthrough?: PassthroughStatus;
  /** `connected`, `reconnecting`, `idle` where the file is not open, or the errno that requests fail with. */
  readonly state: string;
  /** Number of threads: the worker and the connected read threads. */
  readonly threads: number;
  readonly connections: readonly { readonly number: number; readonly inFlight: number }[];
  readonly handshake: string;
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
  readonly canMultiConn: boolean;
  readonly flags: readonly string[];
  readonly metaContexts: readonly string[];
  /** Bytes. */
  readonly blockSizes: { readonly minimum: number; readonly maximum: number };
  readonly reads: RequestStatus;
  readonly writes: RequestStatus;
  readonly flushes: number;
  readonly writeZeroes: number;
  /** Requests of programs that failed, also those that no server has seen. */
  readonly errors: number;
  /** Error replies of the server. */
  readonly serverErrors: number;
  readonly inFlight: number;
  /** Bytes over the network. */
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** The server has answered these writes, and no FLUSH has covered them. */
  readonly unflushedBytes: number;
  /** Requests that wait for older ones of the same bytes. */
  readonly blockedByOverlap: number;
  /** Changes that wait for proof that the server will not carry out an older one of the same bytes. */
  readonly blockedByProof: number;
  /** Changes that were sent on lost connections, and that the server may still execute. */
  readonly unresolvedWrites: number;
  /** The reasons for which requests and new connections wait: at most one of each kind. */
  readonly waits: readonly WaitStatus[];
  /** Failed FLUSHes, and other events that may have lost acknowledged writes. */
  readonly writebackErrors: number;
  /** Of a disk behind nbdfuse's chunk server: its cache, and its passes over the image. */
  readonly chunks?: ChunkStatus;
  /** Bytes, but for the hits. */
  readonly readAhead: { readonly fetched: number; readonly hits: number; readonly unused: number };
  /** READs that were answered from the cache file without the chunk server. */
  readonly cacheFileReads: number;
  readonly lostConnections: number;
  /** Requests that were sent again after a loss. */
  readonly retriedRequests: number;
  /** Of a partition's file: see PartDescription. `size` is that of the partition. */
  readonly partition?: number;
  /** Bytes of the disk, in decimal digits. */
  readonly offset?: string;
  readonly type?: string;
  readonly label?: string;
  readonly uuid?: string;
}

/** The status of one file. */
export interface FileStatus {
  readonly file: number;
  readonly status: Status;
}
