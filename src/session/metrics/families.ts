// The metrics of mounts, from the status of their files. Pure.
//
// Used by the HTTP server of --metrics and by `--status --format=openmetrics`. Prometheus reads the names: a renamed
// metric breaks the dashboards and alert rules of users, as packaging/monitoring has them.

import { basename } from 'node:path';
import { printable } from '../../nbd/text.js';
import type { RequestStatus, Status } from '../../worker/contract/status.js';
import type { Family, Histogram, Labels, Sample } from './exposition.js';

/** A file of a mount, with its status. */
export interface MeasuredFile {
  /** Absolute. */
  readonly path: string;
  readonly status: Status;
}

/** A mount. Without files its process did not answer. */
export interface MeasuredMount {
  /** Absolute. */
  readonly mountpoint: string;
  readonly files: readonly MeasuredFile[] | undefined;
}

/** A metric of a file: its values, with their labels besides those of the file. None where a file lacks it. */
interface FileMetric extends Omit<Family, 'samples'> {
  readonly values: (status: Status) => readonly Sample[];
}

/** Powers of two of the microseconds of the bounds: 16 us to 16.8 s. */
const FIRST_POWER = 4;
const LAST_POWER = 24;

/** The latencies as cumulative counts. */
function latencies({ histogram, count, seconds }: RequestStatus): Histogram {
  const below = (power: number): number => histogram.slice(0, power + 1).reduce((sum, one) => sum + one, 0);
  const buckets = Array.from({ length: LAST_POWER - FIRST_POWER + 1 }, (_, i) => ({
    le: 2 ** (FIRST_POWER + i) / 1e6,
    count: below(FIRST_POWER + i),
  }));
  return { buckets, count, sum: seconds };
}

const only = (value: Sample['value'] | undefined): readonly Sample[] =>
  value === undefined ? [] : [{ labels: {}, value }];

/** One value for each value of a label. */
const by = (label: string, values: Readonly<Record<string, Sample['value']>>): readonly Sample[] =>
  Object.entries(values).map(([text, value]) => ({ labels: { [label]: text }, value }));

const WAITS = ['overlap', 'proof', 'replay', 'identity', 'flush', 'connection'];
const STATES = ['connected', 'reconnecting', 'idle', 'failed'];

function stateOf({ state }: Status): string {
  return STATES.includes(state) ? state : 'failed';
}

const truth = (value: boolean): number => (value ? 1 : 0);

function metric(
  [name, type, unit]: readonly [string, Family['type'], Family['unit']?],
  help: string,
  values: FileMetric['values'],
): FileMetric {
  return { name, type, help, values, ...(unit === undefined ? {} : { unit }) };
}

/** Of the connections, and of requests that wait. */
const CONNECTION_METRICS: readonly FileMetric[] = [
  metric(['nbdfuse_file', 'info'], 'The server of a file, and how nbdfuse serves it.', (status) => {
    const { server, tls, readOnly, cache, handshake } = status;
    return [
      { labels: { server, tls: String(tls), read_only: String(readOnly), cache, handshake }, value: 1 },
    ];
  }),
  metric(['nbdfuse_size_bytes', 'gauge', 'bytes'], 'Size of the file.', ({ size }) => only(size)),
  metric(
    ['nbdfuse_uptime_seconds', 'gauge', 'seconds'],
    'Time since the start of the process that serves the file.',
    ({ uptime }) => only(uptime),
  ),
  metric(
    ['nbdfuse_state', 'gauge'],
    '1 for the state of the connection to the server, 0 for the other states.',
    (status) => by('state', Object.fromEntries(STATES.map((one) => [one, truth(one === stateOf(status))]))),
  ),
  metric(['nbdfuse_connections', 'gauge'], 'Connections to the server.', ({ connections }) =>
    only(connections.length),
  ),
  metric(['nbdfuse_threads', 'gauge'], 'Threads that serve the file.', ({ threads }) => only(threads)),
  metric(
    ['nbdfuse_lost_connections', 'counter'],
    'Connections to the server that were lost.',
    ({ lostConnections }) => only(lostConnections),
  ),
  metric(
    ['nbdfuse_retried_requests', 'counter'],
    'Requests that nbdfuse sent again after a lost connection.',
    ({ retriedRequests }) => only(retriedRequests),
  ),
  metric(['nbdfuse_requests_in_flight', 'gauge'], 'Requests of programs without a reply.', ({ inFlight }) =>
    only(inFlight),
  ),
  metric(
    ['nbdfuse_waiting', 'gauge'],
    'Requests, writes or connections that wait, by the reason.',
    ({ waits }) => {
      const countOf = (reason: string): number => waits.find((one) => one.reason === reason)?.count ?? 0;
      return by('reason', Object.fromEntries(WAITS.map((reason) => [reason, countOf(reason)])));
    },
  ),
];

/** Of the requests and the traffic of a disk. The partitions of a disk share these counts. */
const TRAFFIC_METRICS: readonly FileMetric[] = [
  metric(
    ['nbdfuse_request_duration_seconds', 'histogram', 'seconds'],
    'Latency of the requests that succeeded.',
    ({ reads, writes }) => by('operation', { read: latencies(reads), write: latencies(writes) }),
  ),
  metric(
    ['nbdfuse_request_bytes', 'counter', 'bytes'],
    'Bytes of the requests that succeeded.',
    ({ reads, writes }) => by('operation', { read: reads.bytes, write: writes.bytes }),
  ),
  metric(
    ['nbdfuse_request_errors', 'counter'],
    'Requests of programs that failed.',
    ({ reads, writes, errors }) => {
      const other = Math.max(0, errors - reads.errors - writes.errors);
      return by('operation', { read: reads.errors, write: writes.errors, other });
    },
  ),
  metric(['nbdfuse_server_errors', 'counter'], 'Error replies of the server.', ({ serverErrors }) =>
    only(serverErrors),
  ),
  metric(
    ['nbdfuse_commands', 'counter'],
    'Commands for the server that move no data.',
    ({ flushes, writeZeroes }) => by('command', { flush: flushes, write_zeroes: writeZeroes }),
  ),
  metric(
    ['nbdfuse_network_receive_bytes', 'counter', 'bytes'],
    'Bytes received from the server.',
    ({ bytesReceived }) => only(bytesReceived),
  ),
  metric(
    ['nbdfuse_network_transmit_bytes', 'counter', 'bytes'],
    'Bytes sent to the server.',
    ({ bytesSent }) => only(bytesSent),
  ),
  metric(
    ['nbdfuse_unflushed_bytes', 'gauge', 'bytes'],
    'Bytes written that the server has acknowledged and that no flush covers.',
    ({ unflushedBytes }) => only(unflushedBytes),
  ),
  metric(
    ['nbdfuse_unresolved_writes', 'gauge'],
    'Writes of lost connections that the server may still make.',
    ({ unresolvedWrites }) => only(unresolvedWrites),
  ),
  metric(
    ['nbdfuse_writeback_errors', 'counter'],
    'Failed flushes and other events that may have lost acknowledged writes.',
    ({ writebackErrors }) => only(writebackErrors),
  ),
  metric(['nbdfuse_readahead_fetched_bytes', 'counter', 'bytes'], 'Bytes read ahead.', ({ readAhead }) =>
    only(readAhead.fetched),
  ),
  metric(
    ['nbdfuse_readahead_unused_bytes', 'counter', 'bytes'],
    'Bytes read ahead that no program read.',
    ({ readAhead }) => only(readAhead.unused),
  ),
  metric(['nbdfuse_readahead_hits', 'counter'], 'Reads of bytes that were read ahead.', ({ readAhead }) =>
    only(readAhead.hits),
  ),
  metric(
    ['nbdfuse_passthrough', 'gauge'],
    '1 if the kernel reads the cache file without nbdfuse, else 0.',
    ({ passthrough }) => only(passthrough && truth(passthrough.active)),
  ),
];

/** Of the cache of a compressed or remote image. */
const CACHE_METRICS: readonly FileMetric[] = [
  metric(['nbdfuse_cache_hits', 'counter'], 'Units of the image that were in the cache.', ({ chunks }) =>
    only(chunks?.hits),
  ),
  metric(
    ['nbdfuse_cache_misses', 'counter'],
    'Units of the image that were not in the cache.',
    ({ chunks }) => only(chunks?.misses),
  ),
  metric(['nbdfuse_cache_memory_bytes', 'gauge', 'bytes'], 'Bytes of the image in memory.', ({ chunks }) =>
    only(chunks?.memory.used),
  ),
  metric(
    ['nbdfuse_cache_memory_limit_bytes', 'gauge', 'bytes'],
    'Maximum bytes of the image in memory.',
    ({ chunks }) => only(chunks?.memory.limit),
  ),
  metric(
    ['nbdfuse_cache_file_bytes', 'gauge', 'bytes'],
    'Bytes of the image in the cache file.',
    ({ chunks }) => only(chunks?.file?.used),
  ),
  metric(
    ['nbdfuse_cache_file_limit_bytes', 'gauge', 'bytes'],
    'Maximum size of the cache file.',
    ({ chunks }) => only(chunks?.file?.limit),
  ),
  metric(
    ['nbdfuse_cache_file_complete', 'gauge'],
    '1 if the cache file has the whole image, else 0.',
    ({ chunks }) => only(chunks?.file && truth(chunks.file.complete)),
  ),
  metric(
    ['nbdfuse_cache_file_reads', 'counter'],
    'Reads answered from the cache file without the chunk server.',
    ({ chunks, cacheFileReads }) => only(chunks?.file && cacheFileReads),
  ),
  metric(
    ['nbdfuse_image_fetched_bytes', 'counter', 'bytes'],
    'Bytes fetched of the image, compressed as it is.',
    ({ chunks }) => only(chunks?.fetched),
  ),
  metric(
    ['nbdfuse_image_indexed_bytes', 'gauge', 'bytes'],
    'Compressed bytes done of a first pass over the image.',
    ({ chunks }) => only(chunks?.indexing?.done),
  ),
  metric(
    ['nbdfuse_image_compressed_bytes', 'gauge', 'bytes'],
    'Compressed bytes of an image with a first pass.',
    ({ chunks }) => only(chunks?.indexing?.all),
  ),
  metric(
    ['nbdfuse_prefetched_bytes', 'gauge', 'bytes'],
    'Bytes that prefetching has found or fetched.',
    ({ chunks }) => only(chunks?.prefetch?.done),
  ),
  metric(
    ['nbdfuse_prefetch_size_bytes', 'gauge', 'bytes'],
    'Bytes that prefetching will have fetched.',
    ({ chunks }) => only(chunks?.prefetch?.all),
  ),
];

function printableLabels(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, printable(value)]));
}

/** The name of a file in its mount. Of a mountpoint that is a file: its own. */
function nameOf(mountpoint: string, path: string): string {
  return path.startsWith(`${mountpoint}/`) ? path.slice(mountpoint.length + 1) : basename(path);
}

function labelsOf(mountpoint: string, { path, status }: MeasuredFile): Labels {
  return { mountpoint, file: nameOf(mountpoint, path), export: status.export };
}

interface LabelledFile {
  readonly labels: Labels;
  readonly status: Status;
}

function familiesOf(metrics: readonly FileMetric[], files: readonly LabelledFile[]): readonly Family[] {
  return metrics.map(({ values, ...family }) => ({
    ...family,
    samples: files.flatMap(({ labels, status }) =>
      values(status).map((one) => ({ ...one, labels: printableLabels({ ...labels, ...one.labels }) })),
    ),
  }));
}

/** The versions of the programs that serve the mounts: one sample each. */
function buildFamily(files: readonly LabelledFile[]): Family {
  const versions = new Set(files.map(({ status }) => status.version).filter((version) => version !== ''));
  return {
    name: 'nbdfuse_build',
    type: 'info',
    help: 'Version of nbdfuse.',
    samples: [...versions].map((version) => ({ labels: printableLabels({ version }), value: 1 })),
  };
}

/** All metrics of these mounts. */
export function mountFamilies(mounts: readonly MeasuredMount[]): readonly Family[] {
  const files = mounts.flatMap(({ mountpoint, files = [] }) =>
    files.map((file) => ({ labels: labelsOf(mountpoint, file), status: file.status })),
  );
  const disks = files.filter(({ status }) => status.partition === undefined);
  const up: Family = {
    name: 'nbdfuse_up',
    type: 'gauge',
    help: '1 if the process that serves the mount answers, else 0.',
    samples: mounts.map(({ mountpoint, files }) => ({
      labels: printableLabels({ mountpoint }),
      value: truth(files !== undefined),
    })),
  };
  return [
    buildFamily(files),
    up,
    ...familiesOf(CONNECTION_METRICS, files),
    ...familiesOf([...TRAFFIC_METRICS, ...CACHE_METRICS], disks),
  ];
}
