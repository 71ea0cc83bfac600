// Keeps the single file of a mount connected to its server.
//
// Made by start.ts.

import { join, resolve } from 'node:path';
import type { Mountpoint } from '../mount/mountpoint.js';
import type { NegotiatedConnection } from '../transport/connection.js';
import type { Backend, LossOutcome } from './backend.js';
import { systemClock } from './clock.js';
import type { Disk } from './disk.js';
import type { Keeper, Served } from './keeper.js';
import { adoptFurther, createReconnector } from './link-disk.js';
import { reconnectBy } from './lost-server.js';
import { ReaderSupply } from './reader-supply.js';
import type { Reconnector } from './reconnect.js';
import type { Report, Settings } from './settings.js';

/** The parts of a DiskKeeper. */
export interface DiskKeeperParts {
  readonly settings: Settings;
  readonly report: Report;
  readonly mountpoint: Mountpoint;
  readonly disk: Disk;
  /** Maximum number of threads. */
  readonly threads: number;
}

/** The file as the user would type it. */
function fileLabel({ text, path, filename }: Mountpoint): string {
  return filename !== '' && resolve(text) === path ? join(text, filename) : text;
}

/** Milliseconds that `ready` waits for additional connections. */
const FURTHER_TIME = 100;

/** The only file's number. */
const FILE = 0;

/** See the file's head. */
export class DiskKeeper implements Keeper {
  readonly #parts: DiskKeeperParts;
  #reconnector: Reconnector<NegotiatedConnection> | undefined;
  #readers: ReaderSupply | undefined;

  constructor(parts: DiskKeeperParts) {
    this.#parts = parts;
  }

  begin(backend: Backend): void {
    const { settings, report, mountpoint, disk } = this.#parts;
    this.#reconnector = createReconnector({
      name: fileLabel(mountpoint),
      file: FILE,
      disk,
      connect: reconnectBy(disk.server, settings, () => backend.onServerEnd(FILE)),
      backend,
      settings,
      report,
    });
    this.#reconnector.attach(0, disk.first);
    const { addReader } = backend;
    if (addReader !== undefined)
      this.#readers = new ReaderSupply({
        server: disk.server,
        info: disk.info,
        addReader,
        report,
        clock: systemClock,
      });
  }

  async ready(): Promise<void> {
    const { further } = this.#parts.disk;
    if (this.#reconnector !== undefined) adoptFurther(further, this.#reconnector);
    // These connections began before the mount: a late one is not worth waiting for.
    await Promise.race([Promise.allSettled(further), systemClock.wait(FURTHER_TIME)]);
    // With --threads=N, start them all now.
    if (this.#parts.settings.threads !== undefined) this.#readers?.keep(this.#parts.threads - 1);
  }

  lost(_: number, connection: number, why: string, outcome: LossOutcome): void {
    this.#reconnector?.lost(connection, why, outcome);
  }

  accepted(_: number, connection: number): void {
    this.#reconnector?.accepted(connection);
  }

  readerWanted(): void {
    this.#readers?.wanted();
  }

  readerLost(why: string): void {
    this.#parts.report.detail(`the connection of a read thread was lost: ${why}`);
    if (this.#parts.settings.threads !== undefined) this.#readers?.keep(1);
  }

  /** Adds no more read threads. */
  async stop(): Promise<void> {
    await this.#readers?.stop();
  }

  served(): readonly Served[] {
    const { path, filename } = this.#parts.mountpoint;
    const reconnector = this.#reconnector;
    return reconnector === undefined ? [] : [{ file: FILE, path: join(path, filename), reconnector }];
  }
}
