// Serves a disk of the test's own process on a socket in a scope's folder.

import type { ServedDisk } from '../../src/chunks/contract/disk.js';
import { type DiskServer, serveDisk } from '../../src/chunks/serve/serve.js';
import { AF_UNIX, openSocket, SOCK_STREAM } from '../../src/linux/socket.js';
import { listenUnix } from '../../src/linux/unix-socket.js';
import type { Scope } from './run/scope.js';

/** Serves the disk until the scope's end. */
export async function startDisk(
  scope: Scope,
  disk: ServedDisk,
  name = 'disk.socket',
): Promise<{ server: DiskServer; socket: string; uri: string }> {
  const socket = scope.path(name);
  const fd = openSocket(AF_UNIX, SOCK_STREAM);
  listenUnix(fd, socket);
  const server = await serveDisk(fd, disk);
  scope.add(() => server.close());
  return { server, socket, uri: `nbd+unix:///?socket=${socket}` };
}
