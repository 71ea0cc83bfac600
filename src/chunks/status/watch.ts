// Follows the state of a chunk server, for the main thread of nbdfuse.

import { Socket } from 'node:net';
import { connectUnixSocket } from '../../linux/unix-socket.js';
import type { ChunkStatus } from '../contract/status.js';
import { parseChunkStatus } from './parse.js';

/** Maximum characters of a line; more end the connection. */
const MAX_LINE = 64 * 1024;

/** Splits text into lines. @returns false if a line is too long or not a state */
function lineReader(onStatus: (status: ChunkStatus) => void): (text: string) => boolean {
  let line = '';
  return (text) => {
    const lines = (line + text).split('\n');
    line = lines.pop() ?? '';
    for (const whole of lines) {
      const status = parseChunkStatus(whole);
      if (status === undefined) return false;
      onStatus(status);
    }
    return line.length <= MAX_LINE;
  };
}

/**
 * Calls `onStatus` with each state that the chunk server sends. Resolves when it sends no more: it has ended, there is
 * no such socket, it has sent a line that is not a state, or `signal` is aborted. Never rejects because of the server.
 * @param path of the control socket, of any length
 */
export async function watchChunkStatus(
  path: string,
  onStatus: (status: ChunkStatus) => void,
  signal: AbortSignal,
): Promise<void> {
  const fd = await connectUnixSocket(path).catch(() => undefined);
  if (fd === undefined) return;
  const socket = new Socket({ fd, readable: true, writable: true });
  const read = lineReader(onStatus);
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
