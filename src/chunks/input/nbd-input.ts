// An export of an NBD server as input, and as the disk that changes are written to.
//
// One client makes all changes. Further ones only read: a server need not promise that they see changes at once
// (NBD_FLAG_CAN_MULTI_CONN), so they are only for an export that nobody changes. After a loss the next request connects
// again. A child that has ended is not started again here, since another process may have another disk: the whole chunk
// server ends with it.

import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '../../client/client.js';
import { endpointOf, type ServerAddress } from '../../client/target.js';
import { ENOTCONN } from '../../constants/errno.js';
import { isProxy } from '../../linux/socket-holders.js';
import { writeToStderr } from '../../linux/stderr.js';
import { NbdError, NbdProtocolError, NbdServerError } from '../../nbd/errors.js';
import { printableSink } from '../../nbd/text.js';
import { describeExit } from '../../transport/child.js';
import { programOf } from '../../transport/confine.js';
import { TransportError } from '../../transport/errors.js';
import { KeptOutput } from '../../transport/kept-output.js';
import { type NbdServer, openServer } from '../../transport/server.js';
import type { Input } from '../contract/coding.js';
import type { ReturnedDisk } from '../contract/disk.js';
import type { Writers } from '../contract/status.js';

/** Connections to a server that promises that several are consistent, unless the options say otherwise. */
const CONNECTIONS = 4;
/** Reads at the same time on each connection: one that is answered, and the next one. */
const DEPTH = 2;

export interface NbdInputOptions {
  /** A URI, or the command of a server. */
  readonly server:
    | { readonly uri: string }
    | { readonly command: readonly string[]; readonly isStdio: boolean };
  /** The server takes so many connections, whether or not it says so; undefined: as it says. */
  readonly connections: number | undefined;
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

/** The last line of a child, in place of a refusal: nbdkit says there why it cannot open an export. */
function explained(error: unknown, { lastLine }: KeptOutput): unknown {
  if (!(error instanceof NbdServerError) || lastLine === '') return error;
  return new NbdError(lastLine, { cause: error });
}

/** The worker above keeps newer changes back itself, and sends a lost one again, which a client would refuse. */
const SETTLE_TIME = 0;

/** The processes that serve the connections of a client. */
class ServingProcesses {
  readonly #pids = new Set<number>();
  #isUnknown = false;

  add(pids: readonly number[] | undefined): void {
    if (pids === undefined) this.#isUnknown = true;
    for (const pid of pids ?? []) this.#pids.add(pid);
  }

  clear(): void {
    this.#pids.clear();
    this.#isUnknown = false;
  }

  get writers(): Writers | undefined {
    return this.#isUnknown ? undefined : { pids: [...this.#pids], groups: [] };
  }
}

export class NbdInput implements Input {
  readonly size: number;
  readonly parallel: number;
  /** Called when the client that makes changes has lost its server. */
  onLoss: () => void = () => undefined;
  /** Called with the disk of a client after a loss, before anybody else gets the client. If it rejects, nobody does. */
  onReturn: (disk: ReturnedDisk) => Promise<void> = async () => undefined;
  readonly #server: NbdServer;
  readonly #processes: ServingProcesses;
  readonly #connections: number;
  /** Clients that only read, besides the first one. */
  readonly #more: number;
  /** All clients, and how many reads each has in progress. */
  readonly #reads = new Map<NbdClient, number>();
  #client: NbdClient | undefined;
  #connecting: Promise<NbdClient> | undefined;
  #ended: Promise<void> | undefined;
  /** Clients that are being connected. */
  #openings = 0;
  #isClosing = false;

  private constructor(
    server: NbdServer,
    processes: ServingProcesses,
    connections: number | undefined,
    client: NbdClient,
  ) {
    this.#server = server;
    this.#processes = processes;
    this.#connections = connections ?? CONNECTIONS;
    const isAlone = client.readOnly && client.connections === 1;
    this.#more = isAlone && connections !== undefined ? connections - 1 : 0;
    this.size = Number(client.size);
    this.parallel = (client.connections + this.#more) * DEPTH;
    this.#use(client);
  }

  /** @throws TransportError, NbdError */
  static async open({ server, connections, onEnd }: NbdInputOptions): Promise<NbdInput> {
    // Until a child is connected, only its last line is of use: it repeats itself for each attempt.
    const output = new KeptOutput();
    const processes = new ServingProcesses();
    const opened = await openServer(endpointOf(addressOf(server)), {
      onStderr: (chunk) => output.take(chunk),
      onProcesses: (pids) => processes.add(pids),
    });
    try {
      const client = await NbdClient.over(opened, {
        connections: connections ?? CONNECTIONS,
        settleTime: SETTLE_TIME,
      });
      const input = new NbdInput(opened, processes, connections, client);
      const name = 'uri' in server ? '' : programOf(server.command);
      input.#ended = opened.exited?.then((exit) => onEnd(`${name} ${describeExit(exit)}`));
      output.passOn(printableSink(writeToStderr));
      return input;
    } catch (error) {
      await opened.close();
      throw explained(error, output);
    }
  }

  /** The processes that carry out the changes of the present client; undefined: unknown. */
  get writers(): Writers | undefined {
    const { endpoint, group } = this.#server;
    if (!('argv' in endpoint.target)) return this.#processes.writers;
    // The end of a proxy says nothing about the server behind it.
    if (group === undefined || isProxy(programOf(endpoint.target.argv))) return undefined;
    return { pids: [], groups: [group] };
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
      await this.#readInto(this.#leastBusy(client), bytes, offset);
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
    this.#isClosing = true;
    await Promise.all([...this.#reads.keys()].map((client) => client.close()));
    await this.#server.close();
  }

  async #readInto(client: NbdClient, bytes: Uint8Array, offset: number): Promise<void> {
    this.#count(client, 1);
    try {
      await client.readInto(bytes, offset);
    } finally {
      this.#count(client, -1);
    }
  }

  /** A client that is closed stays forgotten, or all further reads would go to it. */
  #count(client: NbdClient, more: number): void {
    const reads = this.#reads.get(client);
    if (reads !== undefined) this.#reads.set(client, reads + more);
  }

  #leastBusy(first: NbdClient): NbdClient {
    let [least, fewest] = [first, this.#reads.get(first) ?? 0];
    for (const [client, reads] of this.#reads) if (reads < fewest) [least, fewest] = [client, reads];
    // A connection costs the source a request: an image whose bytes are kept needs one.
    if (fewest > 0 && this.#reads.size + this.#openings <= this.#more) void this.#addReader();
    return least;
  }

  async #connect(): Promise<NbdClient> {
    this.#processes.clear();
    const client = await NbdClient.over(this.#server, {
      connections: this.#connections,
      settleTime: SETTLE_TIME,
    });
    try {
      await this.onReturn(client);
    } catch (error) {
      await client.close();
      throw error;
    }
    this.#use(client);
    return client;
  }

  #use(client: NbdClient): void {
    this.#client = client;
    this.#add(client);
    void client.closed.then(() => {
      if (this.#client !== client) return;
      this.#client = undefined;
      this.onLoss();
    });
  }

  /** Connects another client to read. Nobody waits for it: the reads do without one that cannot be had. */
  async #addReader(): Promise<void> {
    this.#openings += 1;
    const client = await NbdClient.over(this.#server).catch(() => undefined);
    this.#openings -= 1;
    if (client === undefined) return;
    if (this.#isClosing || Number(client.size) !== this.size) await client.close();
    else this.#add(client);
  }

  #add(client: NbdClient): void {
    this.#reads.set(client, 0);
    void client.closed.then(() => this.#reads.delete(client));
  }
}
