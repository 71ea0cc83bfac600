// The disk of the cache file: FILE and FILE.index, which lose writes at a kill or a power failure.

import type { StoredFile } from '../../../src/chunks/cache/stored-file.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import { EIO, ENOSPC } from '../../../src/constants/errno.js';
import { SectorFile } from '../../../test/support/crashing-disk.js';
import type { Scheduler } from './scheduler.js';

const SECTORS = { data: 64 * 1024, index: 512 } as const;

type FileName = keyof typeof SECTORS;

/** A change of a file. */
type Change = (file: SectorFile, isKept: () => boolean) => void;

/** The error of a failed disk. */
const failure = (errno: number): Error =>
  Object.assign(new Error('the simulated disk fails'), { errno: -errno });

class SimulatedFile {
  /** The bytes that reads see. */
  now: SectorFile;
  /** The bytes that survive a power failure. */
  stable: SectorFile;
  /** Changes that no sync has covered, in their order. */
  unsynced: Change[] = [];
  /** Changes that have begun and not ended. */
  readonly begun = new Set<Change>();

  constructor(name: FileName) {
    this.now = new SectorFile(SECTORS[name]);
    this.stable = new SectorFile(SECTORS[name]);
  }
}

const ALWAYS = (): boolean => true;

/** See the file's head. */
export class CacheDisk {
  /** Whether writes of new bytes find no room; whether all operations fail. */
  isFull = false;
  isBad = false;
  readonly #scheduler: Scheduler;
  readonly #files = { data: new SimulatedFile('data'), index: new SimulatedFile('index') };

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Bytes of FILE. */
  get dataSize(): number {
    return this.#files.data.now.size;
  }

  /** The first bytes of FILE.index, at once. */
  head(length: number): Uint8Array {
    return this.#files.index.now.read(0, length);
  }

  file(name: FileName): StoredFile {
    const file = this.#files[name];
    const change = (what: string, apply: Change, isGrowth = false): Promise<void> => {
      file.begun.add(apply);
      // One that fails is not made later.
      const end = (): void => void file.begun.delete(apply);
      const operation = this.#operation(`${what} of the cache's ${name}`, () => {
        end();
        if (isGrowth && this.isFull) throw failure(ENOSPC);
        apply(file.now, ALWAYS);
        file.unsynced.push(apply);
      });
      operation.catch(end);
      return operation;
    };
    const sync = (): Promise<void> => {
      const covered = file.unsynced.length;
      return this.#operation(`sync of the cache's ${name}`, () => {
        for (const apply of file.unsynced.splice(0, covered)) apply(file.stable, ALWAYS);
      });
    };
    const scratch = Buffer.alloc(UNIT);
    return {
      read: (offset, length) =>
        this.#operation(`read of the cache's ${name}`, () => file.now.read(offset, length)),
      // Some bytes are in the memory of the kernel.
      readNow: (offset, length) => {
        if (this.isBad || this.#scheduler.random.chance(0.5)) return undefined;
        const bytes = file.now.read(offset, length);
        // The next call overwrites these bytes.
        scratch.fill(0xee).set(bytes);
        return bytes.length === length ? scratch.subarray(0, length) : undefined;
      },
      write: (offset, bytes) =>
        change('write', (target, isKept) => target.write(offset, bytes, isKept), name === 'data'),
      sync,
      punch: async (offset, length) => {
        const zeros = new Uint8Array(length);
        await change('hole', (target, isKept) => target.write(offset, zeros, isKept));
        return true;
      },
      truncate: async (size) => {
        await change('truncation', (target) => target.truncate(size));
        await sync();
      },
      lock: () => true,
      unlock: () => undefined,
      close: () => Promise.resolve(),
    };
  }

  /** Another disk with the same files. */
  copy(): CacheDisk {
    const disk = new CacheDisk(this.#scheduler);
    for (const name of ['data', 'index'] as const) disk.#files[name].now = this.#files[name].now.copy();
    return disk;
  }

  /** The process ends at once, or the machine does. Operations in progress are done, in part, or not at all. */
  crash(isPowerFailure: boolean): void {
    const { random } = this.#scheduler;
    for (const file of Object.values(this.#files)) {
      const begun = [...file.begun];
      file.begun.clear();
      const kept = begun.filter(() => random.chance(0.5)).map((apply) => this.#torn(apply));
      if (!isPowerFailure) {
        for (const apply of kept) apply(file.now, ALWAYS);
        file.unsynced.push(...kept);
        continue;
      }
      for (const apply of [...file.unsynced, ...kept])
        if (random.chance(0.6)) this.#torn(apply)(file.stable, ALWAYS);
      file.unsynced = [];
      file.now = file.stable.copy();
    }
  }

  /** A change of which some sectors may be missing, the same each time that it is made. */
  #torn(apply: Change): Change {
    const { random } = this.#scheduler;
    if (random.chance(0.6)) return apply;
    const kept = Array.from({ length: 8 }, () => random.chance(0.6));
    return (file) => {
      let at = 0;
      apply(file, () => kept[at++ % kept.length]);
    };
  }

  #operation<T>(name: string, act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#scheduler.add(name, () => {
        try {
          if (this.isBad) throw failure(EIO);
          resolve(act());
        } catch (error) {
          reject(error);
        }
      });
    });
  }
}
