// Follows the state of a chunk server, over its second socket.
//
// Used by src/session for the status, and by src/cli for the progress of a first pass. The chunk server sends lines of
// JSON; it handles the bytes of strangers, so each line is checked.

import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import type { ChunkStatus } from '../chunks/contract/status.js';

/** Milliseconds between two attempts to connect, while the server starts. */
const PAUSE = 50;
/** Attempts: a minute. */
const ATTEMPTS = 1200;
/** Maximum characters of a line. */
const LINE_LENGTH = 16_384;

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null;
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0;
const isProgress = (value: unknown): boolean =>
  value === undefined || (isFields(value) && isCount(value.done) && isCount(value.all));

function isFile(value: unknown): boolean {
  if (value === undefined) return true;
  if (!isFields(value) || typeof value.path !== 'string' || typeof value.complete !== 'boolean') return false;
  return isCount(value.used) && (value.limit === undefined || isCount(value.limit));
}

/** A parsed line; undefined where it is no state of a chunk server. */
export function parseChunkStatus(line: string): ChunkStatus | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (!isFields(value) || !isFields(value.memory)) return undefined;
    const counts = [value.memory.used, value.memory.limit, value.hits, value.misses, value.fetched];
    const isGood =
      counts.every(isCount) &&
      (value.size === undefined || isCount(value.size)) &&
      isFile(value.file) &&
      isProgress(value.indexing) &&
      isProgress(value.prefetch);
    return isGood ? (value as unknown as ChunkStatus) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Calls `onStatus` for each state of a chunk server, from its start to its end; a server that never listens has none.
 * Does not keep this process alive.
 * @param path of its second socket
 * @returns a function that ends that
 */
export function watchChunkStatus(path: string, onStatus: (status: ChunkStatus) => void): () => void {
  let stop = (): void => undefined;
  let left = ATTEMPTS;
  const attempt = (): void => {
    const socket = createConnection(path);
    let hasConnected = false;
    socket.unref();
    socket.once('connect', () => {
      hasConnected = true;
    });
    // 'close' follows.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (hasConnected || --left <= 0) return;
      const timer = setTimeout(attempt, PAUSE).unref();
      stop = () => clearTimeout(timer);
    });
    createInterface({ input: socket, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
      const status = line.length > LINE_LENGTH ? undefined : parseChunkStatus(line);
      if (status !== undefined) onStatus(status);
    });
    stop = () => {
      hasConnected = true;
      socket.destroy();
    };
  };
  attempt();
  return () => stop();
}
