// NbdClient: the Promise API for programs.
//
// Called by users of the library, by nbdsh and by the fuse-native backend. Nothing blocks. Buffers that
// are passed in belong to the caller again when the promise is settled (after an abort: when the
// connection has sent them).

import type { Readable, Writable } from 'node:stream';
import * as c from '../nbd/constants.js';
import { NbdError } from '../nbd/errors.js';
import { type BlockSizes, type ExportInfo, hasFlag } from '../nbd/export-info.js';
import { type NbdServer, openServer } from '../transport/server.js';
import { BlockIo } from './block-io.js';
import { type BlockStatus, blockStatus, checkContexts, type Extent, iterateExtents } from './block-status.js';
import { connectLinks } from './connect-all.js';
import type { ConnectionPool } from './connection-pool.js';
import type {
  Abortable,
  BlockStatusOptions,
  ChangeOptions,
  ConnectOptions,
  RangeOptions,
  ZeroOptions,
} from './options.js';
import { type ByteCount, checkRange } from './ranges.js';
import { readStream, writeStream } from './streams.js';
import { endpointOf, type ServerAddress } from './target.js';

const EPERM = 1;
const EOPNOTSUPP = 95;

/** A connected export. Every method that talks to the server rejects with NbdError or one of its kinds. */
export class NbdClient {
  /** Resolves when the client cannot be used any more, with why: it was closed, or the server went. */
  readonly closed: Promise<NbdError>;
  readonly #links: ConnectionPool;
  readonly #io: BlockIo;
  readonly #server: NbdServer;
  readonly #ownsServer: boolean;
  #closing: Promise<void> | undefined;

  private constructor(links: ConnectionPool, server: NbdServer, ownsServer: boolean) {
    this.#links = links;
    this.#io = new BlockIo(links);
    this.#server = server;
    this.#ownsServer = ownsServer;
    this.closed = links.closed;
  }

  /**
   * Connects to a server, starting it where the address says so; `close` then ends it.
   * @throws TransportError, NbdServerError, NbdProtocolError, or the signal's reason
   */
  static async connect(address: ServerAddress, options: ConnectOptions = {}): Promise<NbdClient> {
    const server = await openServer(endpointOf(address, options), { onStderr: options.onStderr });
    try {
      const links = await connectLinks(server, options.connections ?? 1, options.signal);
      return new NbdClient(links, server, true);
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  /** Connects to a server that is open already and stays open when the client is closed. */
  static async over(
    server: NbdServer,
    options: Abortable & { connections?: number } = {},
  ): Promise<NbdClient> {
    return new NbdClient(await connectLinks(server, options.connections ?? 1, options.signal), server, false);
  }

  /** Everything that the handshake found out. */
  get info(): ExportInfo {
    return this.#links.info;
  }

  /** Bytes of the export, 0 to 2^63-1. */
  get size(): bigint {
    return this.info.size;
  }

  /** The name that was asked for. */
  get exportName(): string {
    return this.info.name;
  }

  /** The server's text about the export, not escaped. */
  get description(): string | undefined {
    return this.info.description;
  }

  /** The constraints that are kept to, in bytes; what the server advertised is in `info`. */
  get blockSizes(): BlockSizes {
    return this.#io.blockSizes;
  }

  /** Names of the metadata contexts that were agreed on. */
  get metaContexts(): readonly string[] {
    return this.info.metaContexts.map(({ name }) => name);
  }

  /** Live connections. */
  get connections(): number {
    return this.#links.size;
  }

  /** Whether the export takes no changes (NBD_FLAG_READ_ONLY); they are refused with EPERM then. */
  get readOnly(): boolean {
    return this.#has(c.NBD_FLAG_READ_ONLY);
  }

  /** Whether `flush` can be asked (NBD_FLAG_SEND_FLUSH). */
  get canFlush(): boolean {
    return this.#has(c.NBD_FLAG_SEND_FLUSH);
  }

  /** Whether a change can be made stable by itself (NBD_FLAG_SEND_FUA); a flush follows it otherwise. */
  get canFua(): boolean {
    return this.#has(c.NBD_FLAG_SEND_FUA);
  }

  /** Whether `trim` can be asked (NBD_FLAG_SEND_TRIM). */
  get canTrim(): boolean {
    return this.#has(c.NBD_FLAG_SEND_TRIM);
  }

  /** Whether `zero` can be asked (NBD_FLAG_SEND_WRITE_ZEROES). */
  get canZero(): boolean {
    return this.#has(c.NBD_FLAG_SEND_WRITE_ZEROES);
  }

  /** Whether `zero` takes `fastZero` (NBD_FLAG_SEND_FAST_ZERO). */
  get canFastZero(): boolean {
    return this.#has(c.NBD_FLAG_SEND_FAST_ZERO);
  }

  /** Whether `read` takes `df`, for a reply in one piece (NBD_FLAG_SEND_DF). */
  get canDf(): boolean {
    return this.#has(c.NBD_FLAG_SEND_DF);
  }

  /** Whether `cache` can be asked (NBD_FLAG_SEND_CACHE). */
  get canCache(): boolean {
    return this.#has(c.NBD_FLAG_SEND_CACHE);
  }

  /** Whether several connections are consistent with each other (NBD_FLAG_CAN_MULTI_CONN). */
  get canMultiConn(): boolean {
    return this.#has(c.NBD_FLAG_CAN_MULTI_CONN);
  }

  /** Whether the storage turns, so that order matters to its speed (NBD_FLAG_ROTATIONAL). */
  get isRotational(): boolean {
    return this.#has(c.NBD_FLAG_ROTATIONAL);
  }

  /** Whether `blockStatus` can be asked. */
  get canBlockStatus(): boolean {
    return this.info.metaContexts.length > 0;
  }

  /** Reads `length` bytes from `offset` on, all of them. */
  async read(offset: ByteCount, length: number, options: Abortable & { df?: boolean } = {}): Promise<Buffer> {
    checkRange(offset, length, this.size);
    const bytes = Buffer.allocUnsafe(length);
    await this.readInto(bytes, offset, options);
    return bytes;
  }

  /** Fills `into` with the bytes from `offset` on. After a failure its contents are undefined. */
  async readInto(
    into: Uint8Array,
    offset: ByteCount,
    options: Abortable & { df?: boolean } = {},
  ): Promise<void> {
    const { start } = checkRange(offset, into.length, this.size);
    await this.#io.read(
      start,
      into,
      this.#flag(options.df, c.NBD_CMD_FLAG_DF, this.canDf, 'DF'),
      options.signal,
    );
  }

  /** Writes all of `bytes` from `offset` on; they must not change until the promise is settled. */
  async write(offset: ByteCount, bytes: Uint8Array, options: ChangeOptions = {}): Promise<void> {
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

  /** Says that a range's contents are not needed; what it reads as afterwards is undefined. */
  async trim(offset: ByteCount, length: ByteCount, options: ChangeOptions = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canTrim, 'NBD_CMD_TRIM');
    await this.#change(options, (flags) => this.#io.trim(range, flags, options.signal));
  }

  /** Makes every change that was begun before this call permanent. */
  async flush(options: Abortable = {}): Promise<void> {
    this.#need(this.canFlush, 'NBD_CMD_FLUSH');
    await this.#links.flush(options.signal);
  }

  /** Asks the server to have a range at hand (NBD_CMD_CACHE). */
  async cache(offset: ByteCount, length: ByteCount, options: Abortable = {}): Promise<void> {
    const range = checkRange(offset, length, this.size);
    this.#need(this.canCache, 'NBD_CMD_CACHE');
    await this.#io.cache(range, options.signal);
  }

  /** A range's extents, without gaps, by context. @throws NbdError with E2BIG where one has more than 2^20 */
  async blockStatus(
    offset: ByteCount,
    length: ByteCount,
    options: BlockStatusOptions = {},
  ): Promise<BlockStatus> {
    const range = checkRange(offset, length, this.size);
    const contexts = checkContexts(this.#links, options.contexts);
    return blockStatus(this.#links, range, contexts, options.one === true, options.signal);
  }

  /** The extents of one context (default `base:allocation`), asked for as they are used up. */
  extents(options: RangeOptions & { context?: string } = {}): AsyncGenerator<Extent, void, undefined> {
    const context = options.context ?? 'base:allocation';
    checkContexts(this.#links, [context]);
    return iterateExtents(this.#links, this.#range(options), context, options.signal);
  }

  /** A stream of a range's bytes, in order. */
  createReadStream(options: RangeOptions = {}): Readable {
    return readStream(this, this.#range(options), options.signal);
  }

  /** A stream that writes from `offset` (default 0) on; it finishes after a flush, where there is one. */
  createWriteStream(options: Abortable & { offset?: ByteCount } = {}): Writable {
    const { start } = this.#range({ offset: options.offset });
    return writeStream(this, start, this.canFlush, options.signal);
  }

  /**
   * Waits for the requests in flight, leaves with NBD_CMD_DISC, and ends the server if `connect` started
   * it. Does not flush. Calling it again gives the same promise.
   */
  close(): Promise<void> {
    this.#closing ??= this.#links
      .close()
      .finally(() => (this.#ownsServer ? this.#server.close() : undefined));
    return this.#closing;
  }

  #has(flag: number): boolean {
    return hasFlag(this.info, flag);
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
    if (fua && !this.canFua) this.#need(this.canFlush, 'NBD_CMD_FLAG_FUA');
    await this.#links.change(() => send(fua && this.canFua ? c.NBD_CMD_FLAG_FUA : 0));
    if (fua && !this.canFua) await this.flush(options);
  }
}

/** Connects with `connections` connections: NbdClient.connect with that option. */
export function connectMany(
  address: ServerAddress,
  connections: number,
  options: Omit<ConnectOptions, 'connections'> = {},
): Promise<NbdClient> {
  return NbdClient.connect(address, { ...options, connections });
}
