// An open server: the entry point of this directory for sessions and clients.
//
// `openServer` starts a child where the target needs one; `connect` makes negotiated connections. Nothing blocks. The
// caller must close the server, which ends and reaps children and removes socket directories.

import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { closePeer, type PeerHandle, withoutProxies } from '../linux/peer.js';
import { bytesMoved } from '../linux/process.js';
import { writeToStderr } from '../linux/stderr.js';
import { NBD_REP_ERR_UNKNOWN } from '../nbd/constants.js';
import { NbdServerError } from '../nbd/errors.js';
import type { ExportInfo, ListedExport } from '../nbd/export-info.js';
import { Handshake, type HandshakeGoal } from '../nbd/handshake/handshake.js';
import { printable, printableSink } from '../nbd/text.js';
import { describeExit, type ServerExit } from './child.js';
import { chunkServerOptions } from './chunk-program.js';
import { CommandSource } from './command.js';
import { bareWords, programOf } from './confine.js';
import { NegotiatedConnection } from './connection.js';
import { TransportError } from './errors.js';
import { handshakeLimit, type Negotiated, negotiate } from './negotiate.js';
import { groupsEnded } from './process-groups.js';
import { proxyName } from './proxy.js';
import { SocketActivationSource } from './socket-activation.js';
import { DialledSource, type Source, type StderrSink } from './source.js';
import { SshSource } from './ssh.js';
import { listenerOf, serversOf } from './stream-descriptor.js';
import { describeTarget, type Endpoint, type TlsSettings } from './target.js';
import { withinTime } from './time-limit.js';
import type { TlsUpgrade } from './tls.js';

/** Milliseconds to wait for a child's exit status, and its watcher's end, when its connection has broken. */
const EXIT_STATUS_TIME = 3000;
/** Maximum number of exports of a list that are connected to for their size. */
const MAX_CONNECTED_EXPORTS = 64;
/** Maximum number of export names in one message. */
const NAMES_IN_MESSAGE = 10;

/** How to open a server. */
export interface OpenOptions {
  /** Receives the standard error of children; default: it goes to ours, with control characters escaped. */
  readonly onStderr?: StderrSink;
  /** Whether connections will be taken with `takeSocket`: TLS sessions are watched from the start then. */
  readonly handOver?: boolean;
  /** Called for each new connection with the processes that serve it, if they are known. */
  readonly onProcesses?: (pids: readonly number[] | undefined) => void;
}

/** How to make one connection. */
export interface ConnectOptions {
  /** Cancels the attempt; the promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Another export than the endpoint's. */
  readonly exportName?: string;
  /** Whether to find the processes that serve the connection, for `takePeer`. Takes some milliseconds. */
  readonly watch?: boolean;
}

/** How to list exports. */
export interface ListOptions extends Pick<ConnectOptions, 'signal'> {
  /**
   * Called before each export of the list: whether to continue asking for details. With this function no export is
   * connected to for its size.
   */
  readonly describe?: (index: number, count: number) => boolean;
}

/** A server that can be connected to. */
export class NbdServer {
  /** The endpoint that was opened. */
  readonly endpoint: Endpoint;
  readonly #source: Source;
  readonly #handOver: boolean;
  readonly #onProcesses: OpenOptions['onProcesses'];
  /** The groups of the servers that the child has started itself, apart from its own group; undefined: unknown. */
  #groupsBelow: readonly number[] | undefined;

  /** See `openServer`. */
  constructor(endpoint: Endpoint, source: Source, { handOver = false, onProcesses }: OpenOptions) {
    this.endpoint = endpoint;
    this.#source = source;
    this.#handOver = handOver;
    this.#onProcesses = onProcesses;
    this.#groupsBelow = this.#firstGroups();
  }

  /** Only the chunk server starts servers in groups of their own, which `startedGroups` must name. */
  #firstGroups(): readonly number[] | undefined {
    return this.controlPath === undefined ? [] : undefined;
  }

  /** Whether a lost connection can be replaced, and the server that went on meanwhile is the same. */
  get reconnectable(): boolean {
    return this.#source.reconnectable;
  }

  /** Whether the server is our child and goes on serving when a connection to it is lost. */
  get isPersistent(): boolean {
    const { target } = this.endpoint;
    return target.kind === 'socket-activation' && isPersistent(target.argv);
  }

  /** Whether the server is our child and has ended. */
  get hasEnded(): boolean {
    return this.exited !== undefined && this.#source.child?.hasExited === true;
  }

  /** The socket on which a chunk server tells its state; undefined where there is none. */
  get controlPath(): string | undefined {
    return this.#source.controlPath;
  }

  /** Whether the server serves one connection only. */
  get singleConnection(): boolean {
    return this.#source.singleConnection;
  }

  /** Resolves when the current child has exited; undefined where the server is not our child. */
  get exited(): Promise<ServerExit> | undefined {
    return this.#source.restart === undefined ? undefined : this.#source.child?.exited;
  }

  /**
   * Resolves when the current child, all of its group and the groups below it have ended; undefined where the server is
   * not our child, or a group below may be unknown.
   */
  groupEnded(): Promise<void> | undefined {
    const groups = this.#groupsBelow;
    if (this.#source.restart === undefined || groups === undefined) return undefined;
    return this.#source.child?.groupEnded().then(() => groupsEnded(groups));
  }

  /** The process group of the current child; undefined where the server is not our child. */
  get group(): number | undefined {
    return this.#source.child?.pid;
  }

  /** Tells which groups the current child has started; undefined: unknown. */
  startedGroups(groups: readonly number[] | undefined): void {
    this.#groupsBelow = groups;
  }

  /** Whether the server is our child, so that `restart` works. */
  get restartable(): boolean {
    return this.#source.restart !== undefined;
  }

  /**
   * Connects and goes to the transmission phase on the endpoint's export, or on another.
   * @throws TransportError, NbdServerError (its message names the server's exports), NbdProtocolError
   */
  async connect(options: ConnectOptions = {}): Promise<NegotiatedConnection> {
    const { exportName = this.endpoint.exportName } = options;
    try {
      const goal = { kind: 'go', exportName } as const;
      const watched = options.watch === true || this.#handOver || this.#onProcesses !== undefined;
      const { stream, handover, event, peer } = await this.#negotiate(goal, options.signal, watched);
      if (event.type !== 'ready') throw new TransportError('the handshake ended in the wrong place');
      this.#onProcesses?.(peer?.pids);
      return new NegotiatedConnection(event.info, stream, handover, peer);
    } catch (error) {
      const isUnknown = error instanceof NbdServerError && error.replyType === NBD_REP_ERR_UNKNOWN;
      if (isUnknown && options.exportName === undefined) {
        throw await this.#withNames(error, options.signal);
      }
      throw error;
    }
  }

  /**
   * The server's list of exports (NBD_OPT_LIST), over a separate connection. nbd-server lists a size of 0 and gives
   * the true one to clients that connect: exports of that size are connected to.
   */
  async list({ signal, describe }: ListOptions = {}): Promise<ListedExport[]> {
    const { stream, event } = await this.#negotiate({ kind: 'list', describe }, signal);
    stream.end(() => stream.destroy());
    if (event.type !== 'listed') throw new TransportError('the handshake ended in the wrong place');
    if (this.singleConnection || describe !== undefined) return event.exports;
    const doubtful = event.exports.filter(({ info }) => info?.size === 0n).slice(0, MAX_CONNECTED_EXPORTS);
    const certain = new Map<ListedExport, ExportInfo>();
    for (const one of doubtful) {
      const info = await this.#infoByConnecting(one.name, signal);
      if (info !== undefined) certain.set(one, info);
    }
    return event.exports.map((one) => ({ ...one, info: certain.get(one) ?? one.info }));
  }

  /** The details of an export; a size of 0 is verified by connecting to it. */
  async describe(options: ConnectOptions & { readonly exportName: string }): Promise<ExportInfo> {
    const info = await this.info(options);
    if (info.size > 0n) return info;
    return (await this.#infoByConnecting(options.exportName, options.signal)) ?? info;
  }

  /** The details of the endpoint's export, or of another one (NBD_OPT_INFO), over a separate connection. */
  async info(options: ConnectOptions = {}): Promise<ExportInfo> {
    const { exportName = this.endpoint.exportName } = options;
    const goal = { kind: 'info', exportName } as const;
    const { stream, event } = await this.#negotiate(goal, options.signal);
    stream.end(() => stream.destroy());
    if (event.type !== 'described') throw new TransportError('the handshake ended in the wrong place');
    return event.info;
  }

  /**
   * The names of the export's metadata contexts that `queries` find, or of all without queries
   * (NBD_OPT_LIST_META_CONTEXT), over a separate connection.
   */
  async listMetaContexts(queries: readonly string[], options: ConnectOptions = {}): Promise<string[]> {
    const goal = { kind: 'contexts', exportName: this.endpoint.exportName, queries } as const;
    const { stream, event } = await this.#negotiate(goal, options.signal);
    stream.end(() => stream.destroy());
    if (event.type !== 'contexts') throw new TransportError('the handshake ended in the wrong place');
    return event.names;
  }

  /** Ends the child and starts a new one. @throws TransportError when it is not our child */
  async restart(): Promise<void> {
    if (this.#source.restart === undefined)
      throw new TransportError('cannot restart the server: it is not a child of this process');
    await this.#source.restart();
    this.#groupsBelow = this.#firstGroups();
  }

  /** Ends and reaps the children and removes their directories. The owners of connections end these. */
  async close(): Promise<void> {
    await this.#source.close();
  }

  /** Closes the server at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Loads TLS on demand: most servers do without. */
  async #prepareTls(tls: TlsSettings): Promise<TlsUpgrade> {
    const { prepareTls } = await import('./tls.js');
    return prepareTls(this.endpoint.target, tls, this.#handOver);
  }

  /** @param watched whether to find the server's process as well */
  async #negotiate(
    goal: HandshakeGoal,
    signal: AbortSignal | undefined,
    watched = false,
  ): Promise<Negotiated & { readonly peer: PeerHandle | undefined }> {
    const { target, tls, handshake: features } = this.endpoint;
    const upgrade = tls === undefined ? undefined : await this.#prepareTls(tls);
    const handshake = new Handshake({ ...features, goal, tls: tls === undefined ? 'disable' : 'require' });
    const failure = `${describeTarget(target)} did not complete the handshake`;
    const limit = handshakeLimit('argv' in target ? target.argv : []);
    const work = async (either: AbortSignal) => {
      let peer: PeerHandle | undefined;
      try {
        either.throwIfAborted();
        const stream = await this.#source.connect(either);
        // The process that listens now is the server; later it may have ended and left its socket.
        peer = watched ? listenerOf(stream) : undefined;
        const negotiated = await negotiate(stream, handshake, upgrade, either);
        if (watched) peer = serversOf(stream, target.kind === 'unix' ? target.path : undefined, peer);
        return { ...negotiated, peer: peer === undefined ? undefined : withoutProxies(peer) };
      } catch (error) {
        if (peer !== undefined) closePeer(peer);
        throw either.aborted ? error : await this.#explain(error);
      }
    };
    const progress = limit.allowsProgress ? () => bytesMoved(this.#source.child?.pid) : undefined;
    return withinTime(limit.milliseconds, failure, signal, work, progress);
  }

  /** A connection to a child often breaks because the child has exited: then the error describes the exit. */
  async #explain(error: unknown): Promise<unknown> {
    const { child } = this.#source;
    if (child === undefined || !(error instanceof TransportError)) return error;
    const exit = await Promise.race([child.exited, delay(EXIT_STATUS_TIME, undefined, { ref: false })]);
    if (exit === undefined) return error;
    return new TransportError(`${printable(programOf(child.argv))} ${describeExit(exit)}`, { cause: error });
  }

  /** The details of an export by NBD_OPT_GO; undefined when it cannot be connected to. */
  async #infoByConnecting(
    exportName: string,
    signal: AbortSignal | undefined,
  ): Promise<ExportInfo | undefined> {
    try {
      const { stream, event } = await this.#negotiate({ kind: 'go', exportName }, signal);
      if (event.type !== 'ready') return undefined;
      const connection = new NegotiatedConnection(event.info, stream);
      connection.close();
      return event.info;
    } catch (error) {
      if (error === signal?.reason) throw error;
      return undefined;
    }
  }

  async #withNames(error: NbdServerError, signal: AbortSignal | undefined): Promise<NbdServerError> {
    if (this.singleConnection) return error;
    const exports = await this.list({ signal }).catch(() => []);
    if (exports.length === 0) return error;
    const names = exports.slice(0, NAMES_IN_MESSAGE).map(({ name }) => `"${printable(name, 100)}"`);
    if (exports.length > names.length) names.push(`and ${exports.length - names.length} more`);
    const { errno, option, replyType, serverText } = error;
    const message = `${error.message}; the server has ${names.join(', ')}`;
    return new NbdServerError(message, { errno, option, replyType, serverText, cause: error });
  }
}

/** Whether a command line has a server that does not end with its last connection: a program of ours, or a qemu-nbd. */
function isPersistent(argv: readonly string[]): boolean {
  if (chunkServerOptions(argv) !== undefined) return true;
  const [program = '', ...words] = bareWords(argv);
  if (proxyName(argv) !== undefined) return true;
  // One on top of an nbdkit is in a line for a shell.
  if (words.at(-2) === '--run') return /\bqemu-nbd --persistent /.test(words.at(-1) ?? '');
  return basename(program) === 'qemu-nbd' && words.some((word) => word === '--persistent' || word === '-t');
}

async function openSource(endpoint: Endpoint, onStderr: StderrSink): Promise<Source> {
  const { target } = endpoint;
  switch (target.kind) {
    case 'command':
      return CommandSource.open(target.argv, onStderr);
    case 'socket-activation':
      return SocketActivationSource.open({ argv: target.argv, onStderr, currentDirectory: target.directory });
    case 'ssh':
      return new SshSource(target, onStderr);
    default:
      return new DialledSource(target);
  }
}

/** Opens the server of an endpoint: starts its child, if it has one, and connects nothing yet. */
export async function openServer(endpoint: Endpoint, options: OpenOptions = {}): Promise<NbdServer> {
  const onStderr = options.onStderr ?? printableSink(writeToStderr);
  return new NbdServer(endpoint, await openSource(endpoint, onStderr), options);
}
