// The screen of --watch for a single file, redrawn every second. Pure.

import { printable } from '../../nbd/text.js';
import { bytesText, counted, waitLines } from '../../session/status-text.js';
import type { Style } from '../../session/style.js';
import type { Status } from '../../worker/contract/status.js';
import type { MountedFile } from './mounted.js';
import { requestCells } from './rates.js';

/** How to draw a panel. */
export interface PanelOptions {
  readonly style: Style;
  /** Characters in a line of the terminal. */
  readonly columns: number;
  /** Bytes read and written in each past second, the newest last. */
  readonly history: readonly number[];
  /** Seconds between the two samples. */
  readonly seconds: number;
}

const BARS = [...' ▁▂▃▄▅▆▇█'];
const WIDTHS = [9, 9, 14, 10, 10, 14];

/** One bar per number; the largest has full height. */
export function sparkline(numbers: readonly number[]): string {
  const most = Math.max(1, ...numbers);
  return numbers.map((value) => BARS[Math.ceil((value / most) * (BARS.length - 1))]).join('');
}

/** 3725 seconds as `1h 2m 5s`. */
export function durationText(seconds: number): string {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  const first = parts.findIndex((part) => part > 0);
  const shown = parts.map((part, i) => `${part}${'hms'[i]}`);
  return first < 0 ? '0s' : shown.slice(first).join(' ');
}

function stateText({ connections, state, tls }: Status, style: Style): string {
  if (connections.length === 0) return style.bad(state);
  return style.good(`${counted(connections.length, 'connection')}${tls ? ' with TLS' : ''}`);
}

function requestRow(kind: 'reads' | 'writes', before: Status, now: Status, seconds: number): string {
  const cells = [kind, ...requestCells(before[kind], now[kind], seconds), bytesText(now[kind].bytes)];
  return cells.map((cell, i) => (i === 0 ? cell.padEnd(WIDTHS[i]) : cell.padStart(WIDTHS[i]))).join('');
}

/** The lines about a file between two samples, each with its newline. */
export function panel(before: MountedFile, now: MountedFile, options: PanelOptions): string {
  const { style, columns, history, seconds } = options;
  const was = before.status;
  const { status } = now;
  const label = (text: string): string => style.dim(text.padEnd(WIDTHS[0]));
  const rate = (name: 'bytesReceived' | 'bytesSent'): string =>
    `${bytesText((status[name] - was[name]) / seconds)}/s`;
  const losses = `${counted(status.lostConnections, 'connection')}, ${counted(status.retriedRequests, 'request')} sent again`;
  const head = ['', '/s', 'bytes/s', 'p50', 'p99', 'total'];
  const { hits, fetched, unused } = status.readAhead;
  const lines = [
    `${style.bold(printable(now.path))}  ${stateText(status, style)}  up ${durationText(status.uptime)}`,
    style.dim(printable(status.server).slice(0, columns)),
    '',
    style.dim(head.map((cell, i) => (i === 0 ? cell.padEnd(WIDTHS[i]) : cell.padStart(WIDTHS[i]))).join('')),
    requestRow('reads', was, status, seconds),
    requestRow('writes', was, status, seconds),
    '',
    `${label('traffic')}${style.good(sparkline(history.slice(WIDTHS[0] - columns)))}`,
    `${label('network')}${rate('bytesReceived')} in, ${rate('bytesSent')} out`,
    `${label('pending')}${status.inFlight} in flight, ${bytesText(status.unflushedBytes)} unflushed`,
    `${label('cache')}${status.cache}; read ahead: ${((hits - was.readAhead.hits) / seconds).toFixed(0)} hits/s, ` +
      `${bytesText(fetched)} fetched, ${bytesText(unused)} unused`,
    `${label('flushes')}${status.flushes}, write zeroes ${status.writeZeroes}, errors ${status.errors}`,
    `${label('losses')}${status.lostConnections > 0 ? style.bad(losses) : losses}`,
    ...waitLines(status).map(
      ([name, value]) => `${label(name)}${style.bad(value.slice(0, columns - WIDTHS[0]))}`,
    ),
  ];
  return `${lines.join('\n')}\n`;
}
