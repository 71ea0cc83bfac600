// The status of a file as text for a person. Pure.
//
// Used for SIGUSR1 and by `nbdfuse --status`.

import type { ChunkStatus } from '../chunks/contract/status.js';
import { printable } from '../nbd/text.js';
import type { PassthroughStatus, RequestStatus, Status, WaitStatus } from '../worker/contract/status.js';
import { PLAIN, type Style } from './style.js';

/** Units of bytes, each 1024 of the one before. */
export const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** Bytes for a person: 1536 is `1.5 KiB`. */
export function bytesText(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  const digits = power === 0 || Number.isInteger(value) ? 0 : value < 10 ? 2 : 1;
  return `${value.toFixed(digits)} ${UNITS[power]}`;
}

/** Microseconds for a person: 2048 is `2.0 ms`. */
export function timeText(microseconds: number): string {
  if (microseconds < 1000) return `${microseconds} us`;
  if (microseconds < 1e6) return `${(microseconds / 1000).toFixed(1)} ms`;
  return `${(microseconds / 1e6).toFixed(1)} s`;
}

/** `1 connection`, `2 connections`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function requestsText({ count, bytes, errors, p50, p99 }: RequestStatus): string {
  const failed = errors === 0 ? '' : `, ${errors} failed`;
  if (count === 0) return `none${failed}`;
  return `${count} (${bytesText(bytes)})${failed}, median ${timeText(p50)}, 99th percentile ${timeText(p99)}`;
}

function connectionsText({ state, connections, tls, threads }: Status): string {
  if (connections.length === 0) return `none: ${state}`;
  const busy = connections.map(({ inFlight }) => inFlight).join(' + ');
  const several = threads > 1 ? `, ${threads} threads` : '';
  return `${connections.length}${tls ? ' with TLS' : ''}${several}, requests in flight: ${busy}`;
}

function waitText({ reason, count, total, start, end, secondsLeft, seconds }: WaitStatus): string {
  const bytes = start === undefined ? '' : `, bytes ${start} to ${end}`;
  const requests = counted(count, 'request');
  switch (reason) {
    case 'overlap':
      return `${requests} for an older one${bytes}`;
    case 'proof': {
      const time = secondsLeft === undefined ? '' : `; EIO in ${secondsLeft} s`;
      return `${requests} for proof about a lost write${bytes}${time}`;
    }
    case 'replay':
      return `all requests for the replay, ${count} of ${counted(total ?? 0, 'write')} left`;
    case 'identity':
      return `${counted(count, 'new connection')} for the check of the disk`;
    case 'flush':
      return `${counted(count, 'new connection')} for a FLUSH on an older one`;
    case 'connection':
      return `${requests} for a connection${seconds === undefined ? '' : `, lost ${seconds} s ago`}`;
    default:
      return `${count} for ${printable(reason)}`;
  }
}

/** The lines about waits and lost writes: name and value. None when nothing waits and no write is unresolved. */
export function waitLines({ waits, unresolvedWrites }: Status): readonly (readonly [string, string])[] {
  const lost = `${counted(unresolvedWrites, 'write')} on lost connections`;
  return [
    ...waits.map((wait) => ['waiting', waitText(wait)] as const),
    ...(unresolvedWrites === 0 ? [] : [['lost', `${lost}, which the server may still make`] as const]),
  ];
}

function lostWritesText({ writebackErrors: count }: Status): string {
  return `acknowledged writes may have been lost (${count === 1 ? 'once' : `${count} times`})`;
}

function partitionText({ partition, offset, type = '', label = '' }: Status): string {
  const name = label === '' ? '' : ` (${printable(label)})`;
  return `${partition}${name}, type ${printable(type)}, at byte ${offset}`;
}

/** `340 MiB of 1.0 GiB (33 %)`. */
export function progressText({ done, all }: { readonly done: number; readonly all: number }): string {
  const percent = all === 0 ? 100 : Math.floor((100 * done) / all);
  return `${bytesText(done)} of ${bytesText(all)} (${percent} %)`;
}

function prefetchText({ stopped, ...progress }: NonNullable<ChunkStatus['prefetch']>): string {
  return `${progressText(progress)}${stopped === undefined ? '' : `; ended: ${printable(stopped)}`}`;
}

/** How full a cache file is. */
export function cacheFileText({ size, file }: ChunkStatus): string | undefined {
  if (file === undefined) return undefined;
  const path = printable(file.path);
  if (file.complete) return `${path}: complete, ${bytesText(file.used)}`;
  const limit = file.limit === undefined ? '' : `, at most ${bytesText(file.limit)}`;
  return `${path}: ${bytesText(file.used)}${size === undefined ? '' : ` of ${bytesText(size)}`}${limit}`;
}

/** The lines about a chunk server: name and value. */
function chunkLines(
  chunks: ChunkStatus,
  { cacheFileReads }: Pick<Status, 'cacheFileReads'>,
): readonly (readonly [string, string])[] {
  const { memory, indexing, prefetch, hits, misses, fetched } = chunks;
  const read = cacheFileReads === 0 ? '' : `, ${counted(cacheFileReads, 'read')} without the chunk server`;
  const file = cacheFileText(chunks);
  const found = `${counted(hits, 'hit')}, ${misses} misses, ${bytesText(fetched)} fetched`;
  return [
    ['chunks', `${bytesText(memory.used)} of ${bytesText(memory.limit)} in memory, ${found}`],
    ...(file === undefined ? [] : [['cache file', `${file}${read}`] as const]),
    ...(indexing === undefined ? [] : [['indexing', progressText(indexing)] as const]),
    ...(prefetch === undefined ? [] : [['prefetch', prefetchText(prefetch)] as const]),
  ];
}

function processText({ pid, uptime, version }: Status): string {
  return `${pid}, up ${uptime} s${version === '' ? '' : `, nbdfuse ${printable(version)}`}`;
}

function passthroughText({ active, why = '' }: PassthroughStatus): string {
  return active ? 'yes' : `no: ${printable(why)}`;
}

function lines(status: Status, style: Style): readonly (readonly [name: string, value: string])[] {
  const { readAhead } = status;
  const connected = status.connections.length > 0;
  const fetched = `${bytesText(readAhead.fetched)} fetched, ${readAhead.hits} hits`;
  return [
    ['server', status.server],
    ['export', status.export === '' ? '(the default)' : printable(status.export)],
    [
      'size',
      `${status.size} bytes (${bytesText(Number(status.size))})${status.readOnly ? ', read-only' : ''}`,
    ],
    ...(status.partition === undefined ? [] : [['partition', partitionText(status)] as const]),
    ['connections', connected ? connectionsText(status) : style.bad(connectionsText(status))],
    ['cache', status.cache],
    ...(status.passthrough === undefined
      ? []
      : [['passthrough', passthroughText(status.passthrough)] as const]),
    ['reads', requestsText(status.reads)],
    ['writes', requestsText(status.writes)],
    ['flushes', `${status.flushes}, write zeroes ${status.writeZeroes}, errors ${status.errors}`],
    ['unflushed', bytesText(status.unflushedBytes)],
    ['network', `${bytesText(status.bytesReceived)} in, ${bytesText(status.bytesSent)} out`],
    ['read ahead', readAhead.fetched === 0 ? 'none' : `${fetched}, ${bytesText(readAhead.unused)} unused`],
    ...(status.chunks === undefined ? [] : chunkLines(status.chunks, status)),
    [
      'losses',
      `${counted(status.lostConnections, 'connection')}, ${counted(status.retriedRequests, 'request')} sent again`,
    ],
    ...waitLines(status).map(([name, value]) => [name, style.bad(value)] as const),
    ...(status.writebackErrors === 0 ? [] : [['lost writes', style.bad(lostWritesText(status))] as const]),
    ['process', processText(status)],
  ];
}

/** The lines about the file at `path`, each with its end. */
export function statusText(path: string, status: Status, style: Style = PLAIN): string {
  const width = 'connections'.length;
  const body = lines(status, style).map(([name, value]) => `  ${style.dim(name.padEnd(width))}  ${value}\n`);
  return `${style.bold(printable(path))}\n${body.join('')}`;
}
