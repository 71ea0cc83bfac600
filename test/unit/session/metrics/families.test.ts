// The metrics of a status.

import { expect, it } from 'vitest';
import { expositionText } from '../../../../src/session/metrics/exposition.js';
import { type MeasuredMount, mountFamilies } from '../../../../src/session/metrics/families.js';
import { STATUS } from '../../cli/status-sample.js';

/** The lines of the metrics of some mounts. */
const linesOf = (...mounts: readonly MeasuredMount[]): readonly string[] =>
  expositionText(mountFamilies(mounts), 'openmetrics').split('\n');

const FILE = '{mountpoint="/mnt",file="nbd",export="na\\\\x1bme"';

it('metrics: have the figures of the status, with the file in labels', () => {
  const lines = linesOf({ mountpoint: '/mnt', files: [{ path: '/mnt/nbd', status: STATUS }] });
  for (const line of [
    'nbdfuse_build_info{version="1.2.3"} 1',
    'nbdfuse_up{mountpoint="/mnt"} 1',
    `nbdfuse_size_bytes${FILE}} 9223372036854775807`,
    `nbdfuse_state${FILE},state="connected"} 1`,
    `nbdfuse_state${FILE},state="failed"} 0`,
    `nbdfuse_connections${FILE}} 2`,
    `nbdfuse_request_bytes_total${FILE},operation="read"} 12288`,
    `nbdfuse_request_errors_total${FILE},operation="read"} 2`,
    `nbdfuse_request_errors_total${FILE},operation="other"} 1`,
    `nbdfuse_server_errors_total${FILE}} 1`,
    `nbdfuse_lost_connections_total${FILE}} 1`,
    `nbdfuse_waiting${FILE},reason="proof"} 0`,
  ])
    expect(lines).toContain(line);
  expect(lines.join()).not.toContain('nbdfuse_cache');
});

it('metrics: latencies below 2^i microseconds are in the bucket of that bound', () => {
  const lines = linesOf({ mountpoint: '/mnt', files: [{ path: '/mnt/nbd', status: STATUS }] });
  const bucket = (le: string): string =>
    `nbdfuse_request_duration_seconds_bucket${FILE},operation="read",le="${le}"}`;
  // Two of 32 to 64 us, one of 1024 to 2048 us.
  for (const [le, count] of [
    ['3.2e-05', 0],
    ['6.4e-05', 2],
    ['0.001024', 2],
    ['0.002048', 3],
    ['+Inf', 3],
  ] as const)
    expect(lines).toContain(`${bucket(le)} ${count}`);
  expect(lines).toContain(`nbdfuse_request_duration_seconds_sum${FILE},operation="read"} 0.0021`);
});

it('metrics: an errno is the state failed, and a wait has its count', () => {
  const status = { ...STATUS, state: 'EIO', connections: [], waits: [{ reason: 'connection', count: 5 }] };
  const lines = linesOf({ mountpoint: '/mnt', files: [{ path: '/mnt/nbd', status }] });
  expect(lines).toContain(`nbdfuse_state${FILE},state="failed"} 1`);
  expect(lines).toContain(`nbdfuse_waiting${FILE},reason="connection"} 5`);
});

it('metrics: a mount without an answer is down', () => {
  expect(linesOf({ mountpoint: '/dead', files: undefined })).toContain('nbdfuse_up{mountpoint="/dead"} 0');
});

it('metrics: a file that is the mountpoint has its own name', () => {
  const lines = linesOf({ mountpoint: '/d/disk', files: [{ path: '/d/disk', status: STATUS }] });
  expect(lines.join()).toContain('nbdfuse_connections{mountpoint="/d/disk",file="disk"');
});

it('metrics: partitions do not count the traffic of their disk again', () => {
  const part = { ...STATUS, partition: 1, offset: '1048576', size: '512' };
  const files = [
    { path: '/mnt/disk.raw', status: STATUS },
    { path: '/mnt/p1', status: part },
  ];
  const lines = linesOf({ mountpoint: '/mnt', files });
  expect(lines.filter((line) => line.startsWith('nbdfuse_size_bytes{'))).toHaveLength(2);
  expect(lines.filter((line) => line.startsWith('nbdfuse_server_errors_total{'))).toHaveLength(1);
});

it('metrics: have the state of a chunk server', () => {
  const chunks = {
    size: 100,
    memory: { used: 10, limit: 20 },
    file: { path: '/c', used: 30, limit: undefined, complete: true },
    indexing: { done: 1, all: 2 },
    prefetch: { done: 3, all: 4 },
    hits: 5,
    misses: 6,
    fetched: 7,
  };
  const lines = linesOf({
    mountpoint: '/mnt',
    files: [
      { path: '/mnt/nbd', status: { ...STATUS, chunks, cacheFileReads: 8, passthrough: { active: true } } },
    ],
  });
  for (const [name, value] of [
    ['cache_memory_bytes', 10],
    ['cache_memory_limit_bytes', 20],
    ['cache_file_bytes', 30],
    ['cache_file_complete', 1],
    ['image_indexed_bytes', 1],
    ['image_compressed_bytes', 2],
    ['prefetched_bytes', 3],
    ['prefetch_size_bytes', 4],
    ['cache_hits_total', 5],
    ['cache_file_reads_total', 8],
    ['cache_misses_total', 6],
    ['image_fetched_bytes_total', 7],
    ['passthrough', 1],
  ])
    expect(lines).toContain(`nbdfuse_${name}${FILE}} ${value}`);
  expect(lines.join()).not.toContain('nbdfuse_cache_file_limit_bytes');
});
