// A status as a mount may have it, for the tests of the texts.

import type { Status } from '../../../src/worker/contract/status.js';

const MIB = 1024 * 1024;

export const STATUS: Status = {
  pid: 7,
  uptime: 60,
  server: 'nbd://host/name',
  tls: true,
  export: 'na\x1bme',
  size: '9223372036854775807',
  readOnly: true,
  cache: 'none',
  state: 'connected',
  threads: 1,
  connections: [
    { number: 0, inFlight: 3 },
    { number: 1, inFlight: 0 },
  ],
  handshake: 'fixed-newstyle',
  structuredReplies: true,
  extendedHeaders: false,
  canMultiConn: true,
  flags: [],
  metaContexts: [],
  blockSizes: { minimum: 1, maximum: 4096 },
  reads: { count: 3, bytes: 12_288, p50: 64, p99: 2048, histogram: [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1] },
  writes: { count: 0, bytes: 0, p50: 0, p99: 0, histogram: [] },
  flushes: 1,
  writeZeroes: 2,
  errors: 3,
  inFlight: 3,
  bytesReceived: 12_400,
  bytesSent: 99,
  unflushedBytes: 0,
  blockedByOverlap: 0,
  blockedByProof: 0,
  unresolvedWrites: 0,
  waits: [],
  writebackErrors: 0,
  readAhead: { fetched: 2 * MIB, hits: 5, unused: MIB },
  lostConnections: 1,
  retriedRequests: 4,
};
