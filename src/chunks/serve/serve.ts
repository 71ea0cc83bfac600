// Serves a disk to NBD clients on a listening socket.

import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { ServedDisk } from '../contract/disk.js';
import { ServedClient } from './client.js';

/** Maximum clients at once: as many as a mount has connections. More lose their connection at once. */
const MAX_CLIENTS = 1024;

/** A server that accepts clients. */
export interface DiskServer {
  /** The number of connected clients. */
  readonly clients: number;
  /** Stops listening, and ends all connections, the disk's too, without further replies. A second call waits as well. */
  close(): Promise<void>;
}

/**
 * Serves a disk.
 * @param listener descriptor of a listening stream socket, which belongs to the server from now on
 * @throws NodeJS.ErrnoException if it is none
 */
export async function serveDisk(listener: number, disk: ServedDisk): Promise<DiskServer> {
  const sockets = new Set<Socket>();
  // A client that has sent its last request still waits for replies.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    void new ServedClient(socket).serve(disk);
  });
  server.maxConnections = MAX_CLIENTS;
  server.listen({ fd: listener });
  await once(server, 'listening');
  // accept(2) may fail for want of descriptors: the clients wait.
  server.on('error', () => undefined);
  async function close(): Promise<void> {
    const closed = [server, ...sockets].map((one) => once(one, 'close'));
    server.close();
    for (const socket of sockets) socket.destroy();
    await Promise.all(closed);
  }
  let closing: Promise<void> | undefined;
  return {
    get clients() {
      return sockets.size;
    },
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}
