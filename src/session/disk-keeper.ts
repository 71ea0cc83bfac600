// Keeps the one disk of a mount connected.
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

/** What a keeper is made of. */
export interface DiskKeeperParts {
  readonly settings: Settings;
  readonly report: Report;
  readonly mountpoint: Mountpoint;
  readonly disk: Disk;
  /** Threads that may serve it. */
  readonly threads: number;
}

/** The file as the user would type it. */
function fileLabel({ text, path, filename }: Mountpoint): string {
  return filename !== '' && resolve(text) === path ? join(text, filename) : text;
}

/** Milliseconds. */
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
    // They have been under way for longer than the mount: one that comes late is nothing to wait for.
    await Promise.race([Promise.allSettled(further), systemClock.wait(FURTHER_TIME)]);
    // Who has said how many has them from the start.
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

  /** Makes no more connections for further threads. */
  async stop(): Promise<void> {
    await this.#readers?.stop();
  }

  served(): readonly Served[] {
    const { path, filename } = this.#parts.mountpoint;
    const reconnector = this.#reconnector;
    return reconnector === undefined ? [] : [{ file: FILE, path: join(path, filename), reconnector }];
  }
}
