// The table of --watch: the activity of a mount between two samples. Pure.

import { printable } from '../../nbd/text.js';
import { bytesText, timeText } from '../../session/status-text.js';
import type { RequestStatus } from '../../worker/contract/status.js';
import { percentile } from '../../worker/stats/counters.js';
import type { MountedFile } from './mounted.js';

const HEAD = [
  'file',
  'state',
  'reads/s',
  'bytes/s',
  'p50',
  'p99',
  'writes/s',
  'bytes/s',
  'p50',
  'p99',
  'in flight',
  'unflushed',
  'read-ahead hits/s',
  'losses',
];

/** Requests of one kind between two samples: rate, bytes per second, and latencies. */
export function requestCells(before: RequestStatus, now: RequestStatus, seconds: number): readonly string[] {
  const histogram = now.histogram.map((count, i) => count - (before.histogram[i] ?? 0));
  const time = (share: number): string => {
    const value = percentile(histogram, share);
    return value === 0 ? '-' : timeText(value);
  };
  return [
    ((now.count - before.count) / seconds).toFixed(0),
    bytesText((now.bytes - before.bytes) / seconds),
    time(0.5),
    time(0.99),
  ];
}

function row(before: MountedFile, now: MountedFile, seconds: number): readonly string[] {
  const { status } = now;
  const hits = (status.readAhead.hits - before.status.readAhead.hits) / seconds;
  return [
    printable(now.path),
    status.connections.length > 0 ? `${status.connections.length} connections` : status.state,
    ...requestCells(before.status.reads, status.reads, seconds),
    ...requestCells(before.status.writes, status.writes, seconds),
    String(status.inFlight),
    bytesText(status.unflushedBytes),
    hits.toFixed(0),
    String(status.lostConnections),
  ];
}

/** Whether both samples are of the same file: the counters of a file that replaced another start anew. */
function isEarlier(before: MountedFile, now: MountedFile): boolean {
  const [was, is] = [before.status, now.status];
  return before.path === now.path && was.reads.count <= is.reads.count && was.writes.count <= is.writes.count;
}

/**
 * A table with a head and one row per file. `seconds` lie between the two samples; lines are cut at `width` characters.
 */
export function rateTable(
  before: readonly MountedFile[],
  now: readonly MountedFile[],
  seconds = 1,
  width = Number.POSITIVE_INFINITY,
): string {
  const rows = now.map((file) => row(before.find((one) => isEarlier(one, file)) ?? file, file, seconds));
  const widths = HEAD.map((name, i) => Math.max(name.length, ...rows.map((cells) => cells[i].length)));
  const lines = [HEAD, ...rows].map((cells) =>
    cells
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd()
      .slice(0, width),
  );
  return `${lines.join('\n')}\n`;
}
