// NbdClient: the Promise API.
//
// Used by programs, by nbdsh and by the fuse-native backend. Never blocks. A buffer belongs to the client until the
// promise settles; after an abort, until the connection has sent it.

import type { Readable, Writable } from 'node:stream';
import { EOPNOTSUPP, EPERM } from '../constants/errno.js';
import { type Capabilities, capabilitiesOf, durableFlags, needsFlush } from '../nbd/capabilities.js';
import * as c from '../nbd/constants.js';
import { NbdError } from '../nbd/errors.js';
import type { BlockSizes, ExportInfo } from '../nbd/export-info.js';
import { type NbdServer, openServer } from '../transport/server.js';
import { BlockIo } from './block-io.js';
import { type BlockStatus, blockStatus, checkContexts, type Extent, iterateExtents } from './block-status.js';
import { connectAll } from './connect-all.js';
import type { ConnectionPool } from './connection-pool.js';
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
import { rangeOf, readStream, writeStream } from './streams.js';
import { endpointOf, type ServerAddress } from './target.js';

/** A connected export. Every method that uses the server rejects with NbdError or one of its subclasses. */
export class NbdClient {
  /** Resolves with the reason when the client is closed or has lost its last connection. */
  readonly closed: Promise<NbdError>;
  readonly #pool: ConnectionPool;
  readonly #can: Capabilities;
  readonly #io: BlockIo;
  readonly #ended: () => Promise<void> | void;
  #closing: Promise<void> | undefined;

  private constructor(pool: ConnectionPool, ended: () => Promise<void> | void) {
    this.#pool = pool;
    this.#can = capabilitiesOf(pool.info);
    this.#io = new BlockIo(pool);
    this.#ended = ended;
    this.closed = pool.closed;
  }

  /**
   * Connects to a server, or starts one if the address says so; `close` then ends it.
   * @throws TransportError, NbdServerError, NbdProtocolError, or the signal's reason
   */
  static async connect(address: ServerAddress, options: ConnectOptions = {}): Promise<NbdClient> {
    const server = await openServer(endpointOf(address, options), { onStderr: options.onStderr });
    try {
      const pool = await connectAll(server, options.connections ?? 1, options.signal);
      return new NbdClient(pool, () => server.close());
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  /** Connects to an open server, which stays open when the client is closed. */
  static async over(server: NbdServer, options: OverOptions = {}): Promise<NbdClient> {
    const { connections = 1, signal, onClosed = () => undefined } = options;
    return new NbdClient(await connectAll(server, connections, signal), onClosed);
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
    const { start } = checkRange(offset, bytes.length, this.size);
    await this.#change(options, (flags) => this.#io.write(start, bytes, flags, options.signal));
  }

  /** Makes a range read as zeroes (NBD_CMD_WRITE_ZEROES). */
  async zero(offset: ByteCount, length: ByteCount, options: ZeroOptions = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canZero, 'NBD_CMD_WRITE_ZEROES');
    const extra =
      this.#flag(options.noHole, c.NBD_CMD_FLAG_NO_HOLE, true, 'NO_HOLE') |
      this.#flag(options.fastZero, c.NBD_CMD_FLAG_FAST_ZERO, this.canFastZero, 'FAST_ZERO');
    await this.#change(options, (flags) => this.#io.zero(range, flags | extra, options.signal));
  }

  /** Discards the content of a range, which is undefined afterwards (NBD_CMD_TRIM). */
  async trim(offset: ByteCount, length: ByteCount, options: ChangeOptions = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canTrim, 'NBD_CMD_TRIM');
    await this.#change(options, (flags) => this.#io.trim(range, flags, options.signal));
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
    return blockStatus(this.#pool, range, contexts, options.one === true, options.signal);
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
    return writeStream(this, start, this.canFlush, { signal, highWaterMark });
  }

  /**
   * Waits for the commands in flight, sends NBD_CMD_DISC, and ends the server if `connect` started it. Does not flush.
   * Further calls return the same promise, and all other calls reject with NbdClosedError.
   */
  close(): Promise<void> {
    this.#closing ??= this.#pool.close().finally(this.#ended);
    return this.#closing;
  }

  /** Closes the client at the end of an `await using` block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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

  async #change(options: ChangeOptions, send: (flags: number) => Promise<void>): Promise<void> {
    if (this.readOnly) throw new NbdError('the export is read-only', { errno: EPERM });
    const fua = options.fua === true;
    const flushes = fua && needsFlush(this.#can);
    if (fua && !flushes) this.#need(this.canFua, 'NBD_CMD_FLAG_FUA');
    await this.#pool.change(() => send(fua ? durableFlags(this.#can) : 0));
    if (flushes) await this.flush(options);
  }
}

/** Connects with several connections: NbdClient.connect with the option `connections`. */
export function connectMany(
  address: ServerAddress,
  connections: number,
  options: Omit<ConnectOptions, 'connections'> = {},
): Promise<NbdClient> {
  return NbdClient.connect(address, { ...options, connections });
}
