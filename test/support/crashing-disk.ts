// Two files of a cache on a disk that can lose its power.
//
// Every operation enters a log. `crash` makes the files that a kill or a power failure after the first n operations
// leaves: a kill keeps all of them, a power failure keeps those before the last sync, and any part of the others, sector
// by sector.

import { setImmediate } from 'node:timers/promises';
import type { StoredFile } from '../../src/chunks/cache/stored-file.js';
import { UNIT } from '../../src/chunks/contract/units.js';

const SECTOR = 4096;

/** A file as a map of sectors; missing ones are zeros. */
export class SectorFile {
  size = 0;
  readonly sectors: Map<number, Uint8Array>;
  readonly #sector: number;

  constructor(sector: number, sectors: ReadonlyMap<number, Uint8Array> = new Map()) {
    this.#sector = sector;
    this.sectors = new Map(sectors);
  }

  copy(): SectorFile {
    const file = new SectorFile(this.#sector, this.sectors);
    file.size = this.size;
    return file;
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.size - offset)));
    this.#each(offset, bytes.length, (number, inSector, at, count) => {
      const sector = this.sectors.get(number);
      if (sector !== undefined) bytes.set(sector.subarray(inSector, inSector + count), at);
    });
    return bytes;
  }

  /** @param isKept whether a sector of the write reaches the disk */
  write(offset: number, bytes: Uint8Array, isKept: () => boolean = () => true): void {
    this.#each(offset, bytes.length, (number, inSector, at, count) => {
      if (!isKept()) return;
      const sector = new Uint8Array(this.#sector);
      const old = this.sectors.get(number);
      if (old !== undefined) sector.set(old);
      sector.set(bytes.subarray(at, at + count), inSector);
      this.sectors.set(number, sector);
      this.size = Math.max(this.size, offset + at + count);
    });
  }

  truncate(size: number): void {
    for (const number of [...this.sectors.keys()])
      if (number * this.#sector >= size) this.sectors.delete(number);
    this.size = size;
  }

  #each(
    offset: number,
    length: number,
    act: (number: number, inSector: number, at: number, count: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const number = Math.floor((offset + at) / this.#sector);
      const inSector = (offset + at) % this.#sector;
      const count = Math.min(this.#sector - inSector, length - at);
      act(number, inSector, at, count);
      at += count;
    }
  }
}

type FileName = 'data' | 'index';

type Operation =
  | { readonly kind: 'write'; readonly file: FileName; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly file: FileName; readonly size: number }
  /** All operations on the file before number `upTo` are on stable storage. */
  | { readonly kind: 'sync'; readonly file: FileName; readonly upTo: number }
  /** A unit of the image has another version from now on. */
  | { readonly kind: 'change'; readonly unit: number; readonly version: number };

/** Both files on the disk. */
export interface DiskState {
  readonly data: SectorFile;
  readonly index: SectorFile;
}

export const emptyDisk = (): DiskState => ({ data: new SectorFile(SECTOR), index: new SectorFile(512) });

/** See the file's head. */
export class CrashingDisk {
  readonly log: Operation[] = [];
  readonly #start: DiskState;
  readonly #now: DiskState;
  readonly #random: () => number;
  /** Called before each operation; it may throw, as a full disk does. */
  onOperation: (kind: string, file: FileName) => void = () => undefined;

  /** @param random numbers from 0 to 1 */
  constructor(start: DiskState, random: () => number) {
    this.#start = { data: start.data.copy(), index: start.index.copy() };
    this.#now = { data: start.data.copy(), index: start.index.copy() };
    this.#random = random;
  }

  /** Notes that the image changes at this time. */
  change(unit: number, version: number): void {
    this.log.push({ kind: 'change', unit, version });
  }

  file(name: FileName): StoredFile {
    const file = this.#now[name];
    const step = async (kind: string): Promise<void> => {
      for (let turns = Math.floor(this.#random() * 3); turns > 0; turns--) await setImmediate();
      this.onOperation(kind, name);
    };
    const sync = async (): Promise<void> => {
      const upTo = this.log.length;
      await step('sync');
      this.log.push({ kind: 'sync', file: name, upTo });
    };
    const scratch = Buffer.alloc(UNIT);
    return {
      read: async (offset, length) => {
        await step('read');
        return file.read(offset, length);
      },
      readNow: (offset, length) => {
        const bytes = file.read(offset, length);
        // The next call overwrites these bytes.
        scratch.fill(0xee).set(bytes);
        return bytes.length === length && this.#random() < 0.5 ? scratch.subarray(0, length) : undefined;
      },
      write: async (offset, bytes) => {
        await step('write');
        this.log.push({ kind: 'write', file: name, offset, bytes });
        file.write(offset, bytes);
      },
      sync,
      punch: async (offset, length) => {
        await step('punch');
        const bytes = new Uint8Array(length);
        this.log.push({ kind: 'write', file: name, offset, bytes });
        file.write(offset, bytes);
        return true;
      },
      truncate: async (size) => {
        await step('truncate');
        this.log.push({ kind: 'truncate', file: name, size });
        file.truncate(size);
        await sync();
      },
      lock: () => true,
      unlock: () => undefined,
      close: async () => undefined,
    };
  }

  /** The bytes of FILE now. */
  get dataSize(): number {
    return this.#now.data.size;
  }

  /** The fate of an operation that no sync covers, in a power failure. */
  #fate(): 'kept' | 'lost' | 'torn' {
    const dice = this.#random();
    return dice < 0.45 ? 'kept' : dice < 0.9 ? 'lost' : 'torn';
  }

  /** The disk after the first `count` operations. Enters the changes of the image among them into `versions`. */
  crash(count: number, how: 'kill' | 'power', versions: Map<number, number>): DiskState {
    const synced = { data: 0, index: 0 };
    for (const operation of this.log.slice(0, count))
      if (operation.kind === 'sync')
        synced[operation.file] = Math.max(synced[operation.file], operation.upTo);
    const disk = { data: this.#start.data.copy(), index: this.#start.index.copy() };
    for (const [i, operation] of this.log.slice(0, count).entries()) {
      if (operation.kind === 'change') versions.set(operation.unit, operation.version);
      if (operation.kind === 'sync' || operation.kind === 'change') continue;
      const isSafe = how === 'kill' || i < synced[operation.file];
      const fate = isSafe ? 'kept' : this.#fate();
      const file = disk[operation.file];
      if (fate === 'lost') continue;
      if (operation.kind === 'truncate') file.truncate(operation.size);
      else file.write(operation.offset, operation.bytes, () => fate === 'kept' || this.#random() < 0.5);
    }
    return disk;
  }
}
