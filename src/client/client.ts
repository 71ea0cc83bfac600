// NbdClient: the Promise API.
//
// Used by programs, by nbdsh and by the fuse-native backend. Never blocks. A buffer belongs to the client until the
// promise settles; after an abort, until the connection has sent it.

import { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { EOPNOTSUPP, EPERM } from '../constants/errno.js';
import type { ByteRange } from '../nbd/byte-range.js';
import { type Capabilities, capabilitiesOf, durableFlags, needsFlush } from '../nbd/capabilities.js';
import * as c from '../nbd/constants.js';
import { NbdArgumentError, NbdError } from '../nbd/errors.js';
import type { BlockSizes, ExportInfo } from '../nbd/export-info.js';
import { printable } from '../nbd/text.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import { type NbdServer, openServer } from '../transport/server.js';
import { BlockIo } from './block-io.js';
import { type BlockStatus, blockStatus, checkContexts, type Extent, iterateExtents } from './block-status.js';
import { connectAll } from './connect-all.js';
import { ConnectionPool, type Loss } from './connection-pool.js';
import { type Connector, connectorOf } from './connector.js';
import type {
  Abortable,
  BlockStatusOptions,
  ChangeOptions,
  ConnectOptions,
  OverOptions,
  RangeOptions,
  ReadStreamOptions,
  WriteStreamOptions,
  ZeroOptions,
} from './options.js';
import { type ByteCount, checkBytes, checkLength, checkRange } from './ranges.js';
import { Reconnecting } from './reconnecting.js';
import { rangeOf, readStream, writeStream } from './streams.js';
import { endpointOf, type ServerAddress } from './target.js';

/** The events of a client, with the arguments of their listeners. All are news only: nothing depends on a listener. */
export interface NbdClientEvents {
  /** A connection was lost; `left` is the number of connections that are left. */
  lost: [error: NbdError, left: number];
  /** With `reconnect`: no connection is left, and the client connects again. */
  reconnecting: [];
  /** There is a connection again, after so many seconds without one. */
  reconnected: [seconds: number];
  /** A server that the client found has another export; the client goes on trying. */
  refused: [error: NbdError];
  /** The client is closed: `closed` has resolved with this reason. */
  close: [reason: NbdError];
}

/** NbdClient.over for any connector, which is no part of the public class. */
let makeClient: (connector: Connector, options: OverOptions) => Promise<NbdClient>;

/** A connected export. Every method that uses the server rejects with NbdError or one of its subclasses. */
export class NbdClient extends EventEmitter<NbdClientEvents> {
  /** Resolves with the reason when the client is closed, or has lost its last connection and gets no other. */
  readonly closed: Promise<NbdError>;
  readonly #pool: ConnectionPool;
  readonly #can: Capabilities;
  readonly #io: BlockIo;
  readonly #connector: Connector;
  readonly #ended: () => Promise<void> | void;
  readonly #reconnecting: Reconnecting | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    connections: readonly NegotiatedConnection[],
    connector: Connector,
    { reconnect, settleTime, onClosed = () => undefined }: OverOptions,
  ) {
    super();
    // Otherwise util.inspect, and so nbdsh, would show the fields of the emitter.
    for (const key of Reflect.ownKeys(this)) Object.defineProperty(this, key, { enumerable: false });
    const pool = new ConnectionPool(connections[0].info, {
      waits: reconnect !== undefined,
      settleTime: settleTime === undefined ? undefined : settleTime * 1000,
      onLost: (loss) => this.#lost(loss),
    });
    this.#pool = pool;
    const can = capabilitiesOf(pool.info);
    this.#can = connector.readOnly ? { ...can, readOnly: true } : can;
    this.#io = new BlockIo(pool);
    this.#connector = connector;
    this.#ended = onClosed;
    this.#reconnecting = reconnect === undefined ? undefined : this.#reconnectWithin(reconnect);
    this.closed = pool.closed;
    void this.closed.then((reason) => this.#tell('close', reason));
    try {
      for (const connection of connections) pool.add(connection);
    } catch (error) {
      void pool.close();
      throw error;
    }
  }

  /**
   * Connects to a server, or starts one if the address says so; `close` then ends it.
   * @throws TransportError, NbdServerError, NbdProtocolError, NbdArgumentError, or the signal's reason
   */
  static async connect(address: ServerAddress, options: ConnectOptions = {}): Promise<NbdClient> {
    const server = await openServer(endpointOf(address, options), { onStderr: options.onStderr });
    try {
      return await NbdClient.over(server, { ...options, onClosed: () => server.close() });
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  /** Connects to an open server, which stays open when the client is closed. */
  static async over(server: NbdServer, options: OverOptions = {}): Promise<NbdClient> {
    return NbdClient.#by(connectorOf(server), options);
  }

  static {
    makeClient = (connector, options) => NbdClient.#by(connector, options);
  }

  static async #by(connector: Connector, options: OverOptions): Promise<NbdClient> {
    const { connections, signal, reconnect } = options;
    checkTimes(options);
    if (reconnect !== undefined && !connector.canReconnect)
      throw new NbdArgumentError(
        'reconnect is not possible: the server serves one connection only, or ends with its last one',
      );
    // Without reconnecting the server's processes live as long as a connection is left, and prove nothing.
    const made = await connectAll(connector, { connections, signal, watch: reconnect !== undefined });
    try {
      return new NbdClient(made, connector, options);
    } catch (error) {
      for (const connection of made) connection.close();
      throw error;
    }
  }

  /** The export, as the handshake described it. */
  get info(): ExportInfo {
    return this.#pool.info;
  }

  /** Size of the export in bytes, 0 to 2^63-1. */
  get size(): bigint {
    return this.info.size;
  }

  /** The requested export name. */
  get exportName(): string {
    return this.info.name;
  }

  /** The server's description of the export, not escaped. */
  get description(): string | undefined {
    return this.info.description;
  }

  /** The block sizes that the client obeys, in bytes; `info` has the advertised ones. */
  get blockSizes(): BlockSizes {
    return this.#io.blockSizes;
  }

  /** Names of the negotiated metadata contexts. */
  get metaContexts(): readonly string[] {
    return this.info.metaContexts.map(({ name }) => name);
  }

  /** Number of open connections. */
  get connections(): number {
    return this.#pool.size;
  }

  /** Whether the export is read-only (NBD_FLAG_READ_ONLY). Changes then fail with EPERM. */
  get readOnly(): boolean {
    return this.#can.readOnly;
  }

  /** Whether the server supports `flush` (NBD_FLAG_SEND_FLUSH). */
  get canFlush(): boolean {
    return this.#can.flush;
  }

  /** Whether the server supports FUA (NBD_FLAG_SEND_FUA). Otherwise a flush follows each change with `fua`. */
  get canFua(): boolean {
    return this.#can.fua;
  }

  /** Whether the server supports `trim` (NBD_FLAG_SEND_TRIM). */
  get canTrim(): boolean {
    return this.#can.trim;
  }

  /** Whether the server supports `zero` (NBD_FLAG_SEND_WRITE_ZEROES). */
  get canZero(): boolean {
    return this.#can.zero;
  }

  /** Whether `zero` supports `fastZero` (NBD_FLAG_SEND_FAST_ZERO). */
  get canFastZero(): boolean {
    return this.#can.fastZero;
  }

  /** Whether `read` supports `df`, for a reply in one chunk (NBD_FLAG_SEND_DF). */
  get canDf(): boolean {
    return this.#can.df;
  }

  /** Whether the server supports `cache` (NBD_FLAG_SEND_CACHE). */
  get canCache(): boolean {
    return this.#can.cache;
  }

  /** Whether several connections are consistent with each other (NBD_FLAG_CAN_MULTI_CONN). */
  get canMultiConn(): boolean {
    return this.#can.multiConn;
  }

  /** Whether the storage rotates, so that sequential access is faster (NBD_FLAG_ROTATIONAL). */
  get isRotational(): boolean {
    return this.#can.rotational;
  }

  /** Whether the server supports `blockStatus`. */
  get canBlockStatus(): boolean {
    return this.#can.blockStatus;
  }

  /** Reads exactly `length` bytes at `offset`. */
  async read(offset: ByteCount, length: number, options: Abortable & { df?: boolean } = {}): Promise<Buffer> {
    checkLength(length);
    checkRange(offset, length, this.size);
    const bytes = Buffer.allocUnsafe(length);
    await this.readInto(bytes, offset, options);
    return bytes;
  }

  /** Fills `into` with the bytes at `offset`. After a failure its content is undefined. */
  readInto(into: Uint8Array, offset: ByteCount, options: Abortable & { df?: boolean } = {}): Promise<void> {
    // Not async: that would cost another promise for each read.
    try {
      checkBytes(into);
      const { start } = checkRange(offset, into.length, this.size);
      const flags = this.#flag(options.df, c.NBD_CMD_FLAG_DF, this.canDf, 'DF');
      return this.#io.read(start, into, flags, options.signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Writes all of `bytes` at `offset`. They must not change until the promise settles. */
  async write(offset: ByteCount, bytes: Uint8Array, options: ChangeOptions = {}): Promise<void> {
    checkBytes(bytes);
    const range = checkRange(offset, bytes.length, this.size);
    await this.#change(range, options, (flags) => this.#io.write(range.start, bytes, flags, options.signal));
  }

  /** Makes a range read as zeroes (NBD_CMD_WRITE_ZEROES). */
  async zero(offset: ByteCount, length: ByteCount, options: ZeroOptions = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canZero, 'NBD_CMD_WRITE_ZEROES');
    const extra =
      this.#flag(options.noHole, c.NBD_CMD_FLAG_NO_HOLE, true, 'NO_HOLE') |
      this.#flag(options.fastZero, c.NBD_CMD_FLAG_FAST_ZERO, this.canFastZero, 'FAST_ZERO');
    await this.#change(range, options, (flags) => this.#io.zero(range, flags | extra, options.signal));
  }

  /** Discards the content of a range, which is undefined afterwards (NBD_CMD_TRIM). */
  async trim(offset: ByteCount, length: ByteCount, options: ChangeOptions = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canTrim, 'NBD_CMD_TRIM');
    await this.#change(range, options, (flags) => this.#io.trim(range, flags, options.signal));
  }

  /** Makes every change that began before this call durable (NBD_CMD_FLUSH). */
  async flush(options: Abortable = {}): Promise<void> {
    this.#need(this.canFlush, 'NBD_CMD_FLUSH');
    await this.#pool.flush(options.signal);
  }

  /** Asks the server to prefetch a range (NBD_CMD_CACHE). */
  async cache(offset: ByteCount, length: ByteCount, options: Abortable = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canCache, 'NBD_CMD_CACHE');
    await this.#io.cache(range, options.signal);
  }

  /** The extents of a range, without gaps, by context. @throws NbdError with E2BIG if one has more than 2^20 */
  async blockStatus(
    offset: ByteCount,
    length: ByteCount,
    options: BlockStatusOptions = {},
  ): Promise<BlockStatus> {
    const range = checkRange(offset, length, this.size);
    const contexts = checkContexts(this.#pool, options.contexts);
    return blockStatus(this.#pool, range, contexts, options);
  }

  /** The extents of one context (default `base:allocation`), requested on demand. */
  extents(options: RangeOptions & { context?: string } = {}): AsyncGenerator<Extent, void, undefined> {
    const context = options.context ?? 'base:allocation';
    checkContexts(this.#pool, [context]);
    return iterateExtents(this.#pool, this.#range(options), context, options.signal);
  }

  /** Makes a stream that reads a range in order. @throws NbdArgumentError */
  createReadStream(options: ReadStreamOptions = {}): Readable {
    const { signal, highWaterMark } = options;
    return readStream(this, this.#range(rangeOf(options)), { signal, highWaterMark });
  }

  /**
   * Makes a stream that writes from a byte on. It finishes after a flush, if the server has FLUSH.
   * @throws NbdArgumentError
   */
  createWriteStream(options: WriteStreamOptions = {}): Writable {
    const { signal, highWaterMark } = options;
    const { start } = this.#range(rangeOf(options));
    const ticket = this.#pool.flushTicket();
    const flush = this.canFlush ? () => this.#pool.flush(undefined, ticket) : undefined;
    return writeStream(this, start, flush, { signal, highWaterMark });
  }

  /**
   * Waits for the commands in flight, sends NBD_CMD_DISC, and ends the server if `connect` started it. Does not flush.
   * Calls that wait for a lost server reject with NbdClosedError.
   * Further calls return the same promise, and all other calls reject with NbdClosedError.
   */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** Closes the client at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    const stopped = this.#reconnecting?.stop();
    try {
      await this.#pool.close();
      await stopped;
    } finally {
      await this.#ended();
    }
  }

  /** Emits an event later: a listener that throws must not harm the code that tells. */
  #tell<E extends keyof NbdClientEvents>(event: E, ...words: NbdClientEvents[E]): void {
    process.nextTick(() => (this as EventEmitter).emit(event, ...words));
  }

  #lost(loss: Loss): void {
    this.#tell('lost', loss.error, loss.left);
    this.#reconnecting?.lost(loss);
  }

  #reconnectWithin(seconds: number): Reconnecting {
    const connector = this.#connector;
    const replaces = (): (() => void) => this.#pool.whenServerEnds();
    return new Reconnecting(this.#pool, {
      limit: seconds * 1000,
      connect: (signal) => connector.connect({ signal, watch: true, replaces }),
      isOver: () => connector.isOver(),
      events: {
        reconnecting: () => this.#tell('reconnecting'),
        reconnected: (time) => this.#tell('reconnected', time),
        refused: (error) => this.#tell('refused', error),
      },
    });
  }

  #range({ offset = 0, length }: RangeOptions) {
    const { start } = checkRange(offset, 0, this.size);
    return checkRange(start, length ?? this.size - start, this.size);
  }

  #need(can: boolean, what: string): void {
    if (!can) throw new NbdError(`the server does not support ${what}`, { errno: EOPNOTSUPP });
  }

  #flag(wanted: boolean | undefined, flag: number, can: boolean, what: string): number {
    if (wanted !== true) return 0;
    this.#need(can, `NBD_CMD_FLAG_${what}`);
    return flag;
  }

  async #change(
    range: ByteRange,
    options: ChangeOptions,
    send: (flags: number) => Promise<void>,
  ): Promise<void> {
    if (this.readOnly) throw new NbdError('the export is read-only', { errno: EPERM });
    const fua = options.fua === true;
    const flushes = fua && needsFlush(this.#can);
    if (fua && !flushes) this.#need(this.canFua, 'NBD_CMD_FLAG_FUA');
    const ticket = this.#pool.flushTicket();
    await this.#pool.change(range, () => send(fua ? durableFlags(this.#can) : 0), options.signal);
    if (flushes) await this.#pool.flush(options.signal, ticket);
  }
}

/** @throws NbdArgumentError if an option is no time in seconds */
export function checkTimes({ reconnect, settleTime }: Pick<OverOptions, 'reconnect' | 'settleTime'>): void {
  checkSeconds('reconnect', reconnect);
  checkSeconds('settleTime', settleTime);
}

function checkSeconds(name: string, seconds: unknown): void {
  if (seconds === undefined || (typeof seconds === 'number' && seconds >= 0)) return;
  const shown = printable(String(seconds), 100);
  throw new NbdArgumentError(`bad ${name} ${shown}: it must be a number of seconds, 0 or more`, {
    code: typeof seconds === 'number' ? 'ERR_OUT_OF_RANGE' : 'ERR_INVALID_ARG_TYPE',
  });
}

/** Makes a client whose connections come from a connector. @throws as NbdClient.over */
export function clientBy(connector: Connector, options: OverOptions): Promise<NbdClient> {
  return makeClient(connector, options);
}

/** Connects with several connections: NbdClient.connect with the option `connections`. */
export function connectMany(
  address: ServerAddress,
  connections: number,
  options: Omit<ConnectOptions, 'connections'> = {},
): Promise<NbdClient> {
  return NbdClient.connect(address, { ...options, connections });
}
