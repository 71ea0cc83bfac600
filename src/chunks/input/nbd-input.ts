// An export of an NBD server as input, and as the disk that changes are written to.
//
// One client has all connections. After it is lost, the next request connects again. A child that has ended is not
// started again here, since another process may have another disk: the whole chunk server ends with it.

import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '../../client/client.js';
import { endpointOf, type ServerAddress } from '../../client/target.js';
import { ENOTCONN } from '../../constants/errno.js';
import { NbdError, NbdProtocolError } from '../../nbd/errors.js';
import { describeExit } from '../../transport/child.js';
import { programOf } from '../../transport/confine.js';
import { TransportError } from '../../transport/errors.js';
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
  /** Called when a child has ended; resolves when this process may go on without it. @param how in one line */
  readonly onEnd: (how: string) => Promise<void>;
}

/** Milliseconds in which this process ends with its child, before requests fail and clients lose their connections. */
const END_TIME = 500;

/** Whether an error of a client says that its server is lost. */
function isLoss(error: unknown): error is NbdError {
  if (error instanceof TransportError || error instanceof NbdProtocolError) return true;
  return error instanceof NbdError && error.errno === ENOTCONN;
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
  #ended: Promise<void> | undefined;

  private constructor(server: NbdServer, connections: number, client: NbdClient) {
    this.#server = server;
    this.#connections = connections;
    this.size = Number(client.size);
    this.parallel = Math.max(DEPTH, client.connections * DEPTH);
    this.#use(client);
  }

  /** @throws TransportError, NbdError */
  static async open({ server, connections, onEnd }: NbdInputOptions): Promise<NbdInput> {
    const opened = await openServer(endpointOf(addressOf(server)));
    try {
      const input = new NbdInput(opened, connections, await NbdClient.over(opened, { connections }));
      const name = 'uri' in server ? '' : programOf(server.command);
      input.#ended = opened.exited?.then((exit) => onEnd(`${name} ${describeExit(exit)}`));
      return input;
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
    const bytes = new Uint8Array(length);
    try {
      const client = await this.client();
      if (Number(client.size) !== this.size) throw new Error('the server has a disk of another size now');
      await client.readInto(bytes, offset);
      return bytes;
    } catch (error) {
      throw await this.lossOf(error);
    }
  }

  /** Calls `listener` when a client has lost its server. */
  async onLost(client: NbdClient, listener: () => void): Promise<void> {
    await client.closed;
    await this.#end();
    listener();
  }

  /** An error of a client. It has `isLost` set if the server is lost: the request may or may not have been done. */
  async lossOf(error: unknown): Promise<unknown> {
    if (!isLoss(error)) return error;
    await this.#end();
    return Object.assign(error, { isLost: true });
  }

  /** Waits for the end of this process, if that follows from a loss. */
  async #end(): Promise<void> {
    if (this.#ended !== undefined) await Promise.race([this.#ended, delay(END_TIME)]);
  }

  async close(): Promise<void> {
    await this.#client?.close();
    await this.#server.close();
  }

  async #connect(): Promise<NbdClient> {
    const client = await NbdClient.over(this.#server, { connections: this.#connections });
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
