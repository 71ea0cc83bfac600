// Ports of this machine for servers that cannot choose one, and a check whether a server listens.

import { once } from 'node:events';
import { connect, createServer, type NetConnectOpts, type Server } from 'node:net';

/** Milliseconds that a server may take to listen. */
const LISTEN_LIMIT = 20_000;

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

/** The port on which a server of this process listens. @throws Error where it has none */
export function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}

/**
 * Resolves when a server accepts connections there; tries repeatedly. @throws Error of the last try after 20
 * s
 */
export async function untilListening(where: NetConnectOpts): Promise<void> {
  const end = performance.now() + LISTEN_LIMIT;
  for (;;) {
    const socket = connect(where);
    try {
      await once(socket, 'connect');
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      socket.destroy();
    }
  }
}
