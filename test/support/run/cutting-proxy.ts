// A proxy between nbdfuse and a server, on a Unix socket or a TCP port, that cuts connections on demand.
//
// It does not change bytes, so it also works for TLS. The server's side of a cut connection is reset or
// closed, as after a network failure.

import { once } from 'node:events';
import { createConnection, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { portOf } from './ports.js';
import type { Scope } from './scope.js';

/**
 * Seconds after which the server has executed all commands of a cut connection. The proxy stays alive, so
 * nbdfuse gets no proof of that; for a frozen server the time must exceed the freeze.
 */
export const SETTLE_TIME = 3;

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

/** See the file's head. */
export class CuttingProxy {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();

  private constructor(target: NetConnectOpts) {
    this.#server = createServer((client) => this.#join(client, createConnection(target)));
  }

  /** Listens on `where`, a path or a port of 127.0.0.1 (0: any), for connections to `target`, until the scope ends. */
  static async open(scope: Scope, where: string | number, target: NetConnectOpts): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target);
    scope.add(() => proxy.close());
    if (typeof where === 'string') proxy.#server.listen(where);
    else proxy.#server.listen(where, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** The port on which it listens. @throws Error where that is a path */
  get port(): number {
    return portOf(this.#server);
  }

  /** Cuts up to `most` connections. */
  cut(most: number): void {
    for (const pair of [...this.#pairs].slice(0, most)) this.#part(pair);
  }

  close(): void {
    this.#server.close();
    this.cut(Number.POSITIVE_INFINITY);
  }

  #join(client: Socket, server: Socket): void {
    const pair = { client, server };
    this.#pairs.add(pair);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      from.setNoDelay(true);
      from.on('error', () => this.#part(pair));
      from.on('close', () => this.#part(pair));
      from.pipe(to);
    }
  }

  #part(pair: Pair): void {
    if (!this.#pairs.delete(pair)) return;
    pair.client.destroy();
    pair.server.destroy();
  }
}
