// The control socket: tells nbdfuse the state of the chunk server, as lines of JSON.
//
// A client gets the state when it connects, and after changes at most twice a second. A client that does not read gets
// no line until it has read; nothing is kept for it but the fact that there is news.

import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { AF_UNIX, openSocket, SOCK_STREAM } from '../../linux/socket.js';
import { listenUnix } from '../../linux/unix-socket.js';
import type { ControlLine } from '../contract/status.js';

/** Milliseconds between two lines for a client. */
const REST = 500;
/** Maximum clients at once. */
const MAX_CLIENTS = 16;

/** One client. */
class ControlClient {
  readonly #socket: Socket;
  readonly #current: () => ControlLine;
  #timer: NodeJS.Timeout | undefined;
  #hasNews = true;

  constructor(socket: Socket, current: () => ControlLine) {
    this.#socket = socket;
    this.#current = current;
    // 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => clearTimeout(this.#timer));
    socket.on('drain', () => this.#send());
    // Clients have nothing to say.
    socket.resume();
    this.#send();
  }

  changed(): void {
    this.#hasNews = true;
    this.#send();
  }

  #send(): void {
    const { writableNeedDrain, writable } = this.#socket;
    if (!this.#hasNews || this.#timer !== undefined || writableNeedDrain || !writable) return;
    this.#hasNews = false;
    this.#socket.write(`${JSON.stringify(this.#current())}\n`);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#send();
    }, REST);
  }
}

/** A control socket that listens. */
export interface Control {
  /** The state has changed. Cheap: call it as often as it does. */
  changed(): void;
  /** Ends all connections and removes the socket. */
  close(): Promise<void>;
}

/** The path of the control socket of the server that listens at `path`. */
export const controlPath = (path: string): string => `${path}.control`;

/**
 * Listens at `path`, of any length; replaces a socket that an earlier process left there.
 * @throws SystemError; NodeJS.ErrnoException
 */
export async function startControl(path: string, current: () => ControlLine): Promise<Control> {
  rmSync(path, { force: true });
  const fd = openSocket(AF_UNIX, SOCK_STREAM);
  listenUnix(fd, path);
  const clients = new Map<Socket, ControlClient>();
  const server = createServer((socket) => {
    clients.set(socket, new ControlClient(socket, current));
    socket.on('close', () => clients.delete(socket));
  });
  server.maxConnections = MAX_CLIENTS;
  server.listen({ fd });
  await once(server, 'listening');
  // accept(2) may fail for want of descriptors: the clients wait.
  server.on('error', () => undefined);
  return {
    changed: () => {
      for (const client of clients.values()) client.changed();
    },
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of clients.keys()) socket.destroy();
      await closed;
      rmSync(path, { force: true });
    },
  };
}
