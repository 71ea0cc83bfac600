// Connects to the server of a mounted file or of an image, and finds the processes that carry out its changes: see
// docs/internals/invariants.md.
//
// Behind a chunk server these are the processes of the server below it. The chunk server only hands changes on: its end
// proves nothing, and it may go on when they have ended.

import { openProcesses } from '../../linux/peer.js';
import { isChunkServer } from '../../transport/chunk-cache.js';
import type { NegotiatedConnection } from '../../transport/connection.js';
import { TransportError } from '../../transport/errors.js';
import type { NbdServer } from '../../transport/server.js';
import { readWriters } from './watch.js';

/** Makes one connection. @throws TransportError, NbdServerError, NbdProtocolError */
export async function connectTo(
  server: NbdServer,
  signal: AbortSignal | undefined,
): Promise<NegotiatedConnection> {
  const connection = await server.connect({ signal, watch: true });
  if (server.controlPath === undefined) return connection;
  try {
    // After the handshake: the connection belongs to the server that the chunk server names now, or to an earlier one
    // that it has lost already, so that no change reaches that one through it.
    const writers = await readWriters(server.controlPath, signal);
    server.startedGroups(writers?.groups);
    const { target } = server.endpoint;
    const pids = 'argv' in target && isChunkServer(target.argv) ? (writers?.pids ?? []) : [];
    if (pids.length > 0) connection.watch(openProcesses(pids));
    return connection;
  } catch (error) {
    connection.close();
    throw error instanceof RangeError ? new TransportError(error.message, { cause: error }) : error;
  }
}
