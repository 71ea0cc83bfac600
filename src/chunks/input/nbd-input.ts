// An export of an NBD server as input, and as the disk that changes are written to.
//
// One client has all connections. After it is lost, the next request connects again.

import { NbdClient } from '../../client/client.js';
import { endpointOf, type ServerAddress } from '../../client/target.js';
import { ENOTCONN } from '../../constants/errno.js';
import { type NbdServer, openServer } from '../../transport/server.js';
import type { Input } from '../contract/coding.js';

/** Reads at the same time on each connection. */
const DEPTH = 4;

export interface NbdInputOptions {
  /** A URI, or the command of a server. */
  readonly server:
    | { readonly uri: string }
    | { readonly command: readonly string[]; readonly isStdio: boolean };
  readonly connections: number;
}

function addressOf(server: NbdInputOptions['server']): ServerAddress {
  if ('uri' in server) return server.uri;
  return server.isStdio ? { command: server.command } : { socketActivation: server.command };
}

export class NbdInput implements Input {
  readonly size: number;
  readonly parallel: number;
  readonly #server: NbdServer;
  readonly #connections: number;
  #client: NbdClient | undefined;
  #connecting: Promise<NbdClient> | undefined;

  private constructor(server: NbdServer, connections: number, client: NbdClient) {
    this.#server = server;
    this.#connections = connections;
    this.size = Number(client.size);
    this.parallel = Math.max(DEPTH, client.connections * DEPTH);
    this.#use(client);
  }

  /** @throws TransportError, NbdError */
  static async open({ server, connections }: NbdInputOptions): Promise<NbdInput> {
    const opened = await openServer(endpointOf(addressOf(server)));
    try {
      return new NbdInput(opened, connections, await NbdClient.over(opened, { connections }));
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** The client, connected. @throws TransportError, NbdError */
  async client(): Promise<NbdClient> {
    if (this.#client !== undefined) return this.#client;
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const client = await this.client();
    const bytes = new Uint8Array(length);
    await client.readInto(bytes, offset);
    return bytes;
  }

  async close(): Promise<void> {
    await this.#client?.close();
    await this.#server.close();
  }

  async #connect(): Promise<NbdClient> {
    if (this.#server.hasEnded) await this.#server.restart();
    const client = await NbdClient.over(this.#server, { connections: this.#connections });
    if (Number(client.size) !== this.size) {
      await client.close();
      throw Object.assign(new Error('the server has another disk now'), { errno: ENOTCONN });
    }
    this.#use(client);
    return client;
  }

  #use(client: NbdClient): void {
    this.#client = client;
    void client.closed.then(() => {
      if (this.#client === client) this.#client = undefined;
    });
  }
}
