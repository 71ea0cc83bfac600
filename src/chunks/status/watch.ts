// Follows the state of a chunk server, for the main thread of nbdfuse.

import { Socket } from 'node:net';
import { connectUnixSocket } from '../../linux/unix-socket.js';
import type { ChunkStatus, KeptImage, Writers } from '../contract/status.js';
import { parseChunkStatus, parseKept, parseWriters } from './parse.js';

/** Milliseconds in which a chunk server that has made a handshake tells its state. */
const ANSWER_TIME = 1000;

/** Maximum characters of a line; more end the connection. */
const MAX_LINE = 64 * 1024;

/** Splits text into lines. @returns false if a line is too long or not accepted */
function lineReader(onLine: (line: string) => boolean): (text: string) => boolean {
  let line = '';
  return (text) => {
    const lines = (line + text).split('\n');
    line = lines.pop() ?? '';
    return lines.every(onLine) && line.length <= MAX_LINE;
  };
}

/** Reads lines until the chunk server sends no more, `onLine` returns false or `signal` is aborted. Never rejects. */
async function readLines(
  path: string,
  onLine: (line: string) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const fd = await connectUnixSocket(path).catch(() => undefined);
  if (fd === undefined) return;
  const socket = new Socket({ fd, readable: true, writable: true });
  const read = lineReader(onLine);
  // Not once(): it rejects when the server resets the connection.
  const closed = new Promise((resolve) => socket.once('close', resolve));
  const destroy = (): unknown => socket.destroy();
  socket.on('error', () => undefined);
  socket.on('data', (text: string) => read(text) || destroy());
  socket.setEncoding('utf8');
  signal.addEventListener('abort', destroy);
  if (signal.aborted) destroy();
  await closed;
  signal.removeEventListener('abort', destroy);
}

/**
 * Calls `onStatus` with each state that the chunk server sends. Resolves when it sends no more: it has ended, there is
 * no such socket, it has sent a line that is not a state, or `signal` is aborted. Never rejects because of the server.
 * @param path of the control socket, of any length
 */
export function watchChunkStatus(
  path: string,
  onStatus: (status: ChunkStatus, kept: KeptImage | undefined) => void,
  signal: AbortSignal,
): Promise<void> {
  const take = (line: string): boolean => {
    const status = parseChunkStatus(line);
    if (status !== undefined) onStatus(status, parseKept(line));
    return status !== undefined;
  };
  return readLines(path, take, signal);
}

/** The processes below a chunk server that carry out changes; undefined if it does not name them. */
export async function readWriters(path: string, signal?: AbortSignal): Promise<Writers | undefined> {
  let found: Writers | undefined;
  const take = (line: string): boolean => {
    found = parseWriters(line);
    return false;
  };
  const limit = AbortSignal.timeout(ANSWER_TIME);
  await readLines(path, take, signal === undefined ? limit : AbortSignal.any([signal, limit]));
  return found;
}
