// Keeps a disk and its partitions, which are files of one directory: `disk.raw`, `p1`, `p2` …
//
// Made by start.ts for --partitions. The files of the partitions show parts of the only disk, so they share its
// connections, and its reconnection is that of SingleFileKeeper. The partition table is read once, through the mount.

import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { using } from '../linux/path.js';
import type { Mountpoint } from '../mount/mountpoint.js';
import { printable } from '../nbd/text.js';
import { readPartitions } from '../partitions/partitions.js';
import {
  type DiskReader,
  isWithin,
  numbersText,
  type Partition,
  PartitionError,
} from '../partitions/table.js';
import { reasonOf, TransportError } from '../transport/errors.js';
import type { LossOutcome, PartDescription, ServedFile } from '../worker/contract/messages.js';
import type { Backend } from './backend/backend.js';
import type { FileKeeper, Served } from './file-keeper.js';
import type { Report } from './settings.js';

/** The file of the whole disk. */
export const WHOLE_DISK = 'disk.raw';

/** Its number. Those of the partitions follow. */
const FILE = 0;

/** The parts of a PartitionedDiskKeeper. */
export interface PartitionedDiskParts {
  /** Keeps the whole disk. */
  readonly disk: FileKeeper;
  readonly whole: ServedFile;
  readonly mountpoint: Mountpoint;
  readonly report: Report;
  /** Cancels the start. */
  readonly signal: AbortSignal;
}

/** See the file's head. */
export class PartitionedDiskKeeper implements FileKeeper {
  readonly #parts: PartitionedDiskParts;
  #backend: Backend | undefined;
  #names: readonly string[] = [];

  constructor(parts: PartitionedDiskParts) {
    this.#parts = parts;
  }

  begin(backend: Backend): void {
    this.#backend = backend;
    this.#parts.disk.begin(backend);
  }

  /** @throws PartitionError for a disk without partitions; TransportError when it cannot be read; the signal's reason */
  async ready(): Promise<void> {
    const { disk, report } = this.#parts;
    await disk.ready();
    const found = await this.#untilCancelled(this.#read());
    await this.#backend?.showParts?.(FILE, found);
    this.#names = found.map(({ name }) => name);
    for (const one of found) report.detail(partText(one));
    const numbers = numbersText(
      found.map(({ number }) => number),
      'p',
    );
    const what = numbers === '' ? 'no partition that can be shown' : `the partitions ${numbers}`;
    report.line(`${WHOLE_DISK} has ${what}`, 'info');
  }

  connectionLost(file: number, connection: number, why: string, outcome: LossOutcome): void {
    this.#parts.disk.connectionLost(file, connection, why, outcome);
  }

  connectionAccepted(file: number, connection: number): void {
    this.#parts.disk.connectionAccepted(file, connection);
  }

  /** The files of the partitions too: an orderly stop writes out what the kernel caches of each. */
  served(): readonly Served[] {
    const whole = this.#parts.disk.served();
    const { path } = this.#parts.mountpoint;
    const parts = whole.flatMap((one) =>
      this.#names.map((name, i) => ({ ...one, file: one.file + 1 + i, path: join(path, name) })),
    );
    return [...whole, ...parts];
  }

  async #read(): Promise<readonly PartDescription[]> {
    try {
      return await this.#readThroughMount();
    } catch (error) {
      if (error instanceof PartitionError) throw error;
      throw new TransportError(`cannot read the partition table: ${reasonOf(error)}`, { cause: error });
    }
  }

  async #readThroughMount(): Promise<readonly PartDescription[]> {
    const { whole, report } = this.#parts;
    const descriptor = await this.#backend?.open(FILE);
    if (descriptor === undefined || whole.info === undefined) return [];
    const handle = await using(descriptor, (path) => open(path, 'r'));
    try {
      const disk = readerOf(handle, whole.info.size);
      const { partitions, warning } = await readPartitions(disk);
      if (warning !== undefined) report.line(warning);
      for (const one of partitions.filter((one) => !isWithin(one, disk))) {
        report.line(`partition ${one.number} is not within the disk of ${disk.size} bytes: it is not shown`);
      }
      return partitions.filter((one) => isWithin(one, disk)).map(described);
    } finally {
      await handle.close();
    }
  }

  /** A read of a server that does not answer cannot be cancelled: the caller goes on without it. */
  async #untilCancelled<T>(reading: Promise<T>): Promise<T> {
    const { signal } = this.#parts;
    reading.catch(() => undefined);
    const cancelled = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    cancelled.catch(() => undefined);
    signal.throwIfAborted();
    return Promise.race([reading, cancelled]);
  }
}

function described({ number, offset, size, type, label, uuid }: Partition): PartDescription {
  return { name: `p${number}`, number, offset, size, type, label, uuid };
}

function partText({ name, offset, size, type, label }: PartDescription): string {
  return `${name}: ${size} bytes at ${offset}, type ${type}${label === '' ? '' : `, ${printable(label)}`}`;
}

function readerOf(handle: FileHandle, size: bigint): DiskReader {
  const read = async (offset: bigint, length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await handle.read(bytes, done, length - done, Number(offset) + done);
      if (bytesRead === 0) throw new Error('the disk ends early');
      done += bytesRead;
    }
    return bytes;
  };
  return { size, read };
}
