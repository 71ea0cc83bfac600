// Keeps the single file of a mount connected to its server.
//
// Made by start.ts.

import { join } from 'node:path';
import type { ChunkStatus, KeptImage } from '../chunks/contract/status.js';
import type { Mountpoint } from '../mount/mountpoint.js';
import { exportedCacheFile } from '../transport/chunk-cache.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { LossOutcome } from '../worker/contract/messages.js';
import type { Backend } from './backend/backend.js';
import { followChunkStatus } from './chunk-status.js';
import { systemClock } from './clock.js';
import { adoptFurther, createReconnector } from './connect/connected-disk.js';
import { reconnectBy } from './connect/lost-server.js';
import type { Disk } from './connect/open-disk.js';
import { ReadThreadConnections } from './connect/read-thread-connections.js';
import type { Reconnector } from './connect/reconnect.js';
import type { FileKeeper, Served } from './file-keeper.js';
import type { Report, Settings } from './settings.js';
import { cacheFileText } from './status-text.js';

/** The parts of a SingleFileKeeper. */
export interface SingleFileParts {
  readonly settings: Settings;
  readonly report: Report;
  readonly mountpoint: Mountpoint;
  readonly disk: Disk;
  /** Threads that serve it. */
  readonly threads: number;
}

/** Milliseconds that `ready` waits for additional connections. */
const FURTHER_TIME = 100;

/** Milliseconds that `ready` waits until the kernel has a cache file that was complete before the mount. */
const HANDOVER_TIME = 1000;

/** The only file's number. */
const FILE = 0;

/** See the file's head. */
export class SingleFileKeeper implements FileKeeper {
  readonly #parts: SingleFileParts;
  #reconnector: Reconnector<NegotiatedConnection> | undefined;
  #readThreads: ReadThreadConnections | undefined;
  /** Follows the chunk server whose control socket is at `path`. */
  #watch: { readonly path: string; stop(): void } | undefined;
  #backend: Backend | undefined;
  /** The cache file that holds bytes of the file. */
  #cacheFile: string | undefined;
  /** Its description by the chunk server. */
  #kept: KeptImage | undefined;
  /** Whether the kernel has been offered the complete cache file. */
  #isHandedOver = false;
  #isFirstStatus = true;
  /** Aborted when the kernel has the cache file, or the cache file was not complete at the beginning. */
  readonly #handover = new AbortController();

  constructor(parts: SingleFileParts) {
    this.#parts = parts;
  }

  begin(backend: Backend): void {
    const { settings, report, mountpoint, disk } = this.#parts;
    this.#reconnector = createReconnector({
      name: mountpoint.label,
      file: FILE,
      disk,
      connect: reconnectBy(disk.server, settings, () => backend.onServerEnd(FILE)),
      backend,
      settings,
      report,
    });
    this.#reconnector.attach(0, disk.first);
    const { server } = settings;
    if (server.kind === 'socket-activation') this.#cacheFile = exportedCacheFile(server.argv);
    if (this.#cacheFile === undefined) this.#handover.abort();
    this.#backend = backend;
    this.#follow();
    const { addReadThread } = backend;
    if (addReadThread !== undefined)
      this.#readThreads = new ReadThreadConnections({
        server: disk.server,
        info: disk.info,
        addReadThread,
        report,
        clock: systemClock,
      });
  }

  async ready(): Promise<void> {
    const { further } = this.#parts.disk;
    if (this.#reconnector !== undefined) adoptFurther(further, this.#reconnector);
    // These connections began before the mount: a late one is not worth waiting for.
    await Promise.race([Promise.allSettled(further), systemClock.wait(FURTHER_TIME)]);
    this.#readThreads?.add(this.#parts.threads - 1);
    // A program that opens the file before reads it through nbdfuse as long as it has it open.
    await systemClock.wait(HANDOVER_TIME, this.#handover.signal);
  }

  connectionLost(_: number, connection: number, why: string, outcome: LossOutcome): void {
    this.#reconnector?.lost(connection, why, outcome);
  }

  connectionAccepted(_: number, connection: number): void {
    this.#reconnector?.accepted(connection);
    this.#follow();
    void this.#offerKept();
  }

  /** Follows the state of the disk's chunk server; one that was started again has another control socket. */
  #follow(): void {
    const { controlPath } = this.#parts.disk.server;
    if (controlPath === undefined || controlPath === this.#watch?.path) return;
    this.#watch?.stop();
    this.#kept = undefined;
    const stop = followChunkStatus(controlPath, (chunks, kept) => this.#chunksChanged(chunks, kept));
    this.#watch = { path: controlPath, stop };
  }

  /** Lets the data path read the cache file of the chunk server, which still runs as far as is known. */
  async #offerKept(): Promise<void> {
    const { server } = this.#parts.disk;
    const path = this.#watch?.path;
    const kept = this.#kept;
    const isCurrent = (): boolean =>
      server.controlPath === path && this.#watch?.path === path && this.#kept?.nonce === kept?.nonce;
    if (this.#cacheFile === undefined || !isCurrent()) return;
    await this.#backend?.readKept?.(this.#cacheFile, kept, isCurrent);
  }

  /** Shows the state of the chunk server in the status, and has a cache file read without it where that is possible. */
  #chunksChanged(chunks: ChunkStatus, kept: KeptImage | undefined): void {
    this.#backend?.chunksChanged?.(FILE, chunks);
    const text = cacheFileText(chunks);
    if (this.#isFirstStatus && text !== undefined) this.#parts.report.line(`cache file ${text}`, 'info');
    this.#isFirstStatus = false;
    const isOther = kept?.nonce !== this.#kept?.nonce;
    this.#kept = kept;
    const offered = isOther ? this.#offerKept() : Promise.resolve();
    void Promise.all([offered, this.#handOver(chunks)]).then(() => this.#handover.abort());
  }

  /** Lets the kernel read a complete cache file. */
  async #handOver({ file }: ChunkStatus): Promise<void> {
    if (this.#cacheFile === undefined || file?.complete !== true || this.#isHandedOver) return;
    this.#isHandedOver = true;
    await this.#backend?.usePassthrough(this.#cacheFile);
  }

  /** Makes no more connections for read threads. */
  async stop(): Promise<void> {
    this.#watch?.stop();
    await this.#readThreads?.stop();
  }

  served(): readonly Served[] {
    const { path, filename } = this.#parts.mountpoint;
    const reconnector = this.#reconnector;
    return reconnector === undefined ? [] : [{ file: FILE, path: join(path, filename), reconnector }];
  }
}
