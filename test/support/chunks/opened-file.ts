// Opens a compressed file as the chunk server does, in process, and reads it in several ways.

import { adoptFiles } from '../../../src/chunks/cache/cache-file.js';
import { MemoryCache } from '../../../src/chunks/cache/memory.js';
import type { UnitFile } from '../../../src/chunks/contract/cache.js';
import {
  type Coding,
  DecodeError,
  type Input,
  type MemberCheck,
} from '../../../src/chunks/contract/coding.js';
import { UNIT } from '../../../src/chunks/contract/units.js';
import { ReadError } from '../../../src/chunks/reader/errors.js';
import { type Image, openImage } from '../../../src/chunks/reader/image.js';
import { ImageError } from '../../../src/image/errors.js';
import { CrashingDisk, emptyDisk } from '../crashing-disk.js';
import { startInlinePool } from './inline-pool.js';

/** Memory of the chunk server: one unit, so that others are decoded again. */
const MEMORY = 1.5 * UNIT;

/** A read, and its answer; undefined: EIO. */
export interface ReadPart {
  readonly offset: number;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
}

/** A disk that is read: an image, or a part of it. */
export interface ReadDisk {
  /** Bytes of the image before the disk. */
  readonly offset: number;
  readonly size: number;
  readonly read: (offset: number, length: number) => Promise<readonly Uint8Array[]>;
}

/** The view of a file that a mount would give. */
export interface Opened {
  /** The message of a refused mount. */
  readonly refusal: string | undefined;
  readonly size: number;
  /** Bytes of the image before the disk. */
  readonly offset: number;
  readonly parts: readonly ReadPart[];
  /** Lines for the user. */
  readonly lines: readonly string[];
}

/** The bytes of a file in memory. */
export function memoryInput(bytes: Uint8Array): Input {
  return {
    size: bytes.length,
    parallel: 4,
    read: async (offset, length) => Uint8Array.from(bytes.subarray(offset, offset + length)),
    close: () => Promise.resolve(),
  };
}

/** The cache file of one image, on a disk in memory. */
export class MemoryCacheFile {
  readonly #disk = new CrashingDisk(emptyDisk(), () => 0);
  readonly #coding: string;
  #known: number | undefined;

  readonly #limit: number | undefined;

  /** @param limit bytes of units, or undefined for all */
  constructor(coding: string, limit?: number) {
    this.#coding = coding;
    this.#limit = limit;
  }

  /** As `openFile` of an image. */
  readonly open = async (size: number | undefined): Promise<UnitFile | undefined> => {
    const bytes = size ?? this.#known;
    if (bytes === undefined) return undefined;
    this.#known = bytes;
    const fail = (line: string): never => {
      throw new Error(line);
    };
    return adoptFiles(
      { data: this.#disk.file('data'), index: this.#disk.file('index') },
      { size: this.#disk.dataSize, onDisk: 0 },
      {
        path: 'FILE',
        identity: { source: 'odd', coding: this.#coding, fileSize: 0, version: '' },
        size: bytes,
        limit: this.#limit,
        onFailure: fail,
        onLine: fail,
      },
    );
  };
}

/** Whether opening failed because of the file. A decoder's lack of memory comes as a message of its thread. */
const isAboutData = (error: unknown): error is Error =>
  error instanceof DecodeError ||
  error instanceof ImageError ||
  (error instanceof Error && error.message.includes('memory'));

export interface OpenRequest {
  readonly coding: Coding;
  readonly check?: MemberCheck | undefined;
  readonly input: Input;
  readonly cache?: MemoryCacheFile | undefined;
  /** Gets the lines for the user as they come. */
  readonly onLine?: (line: string) => void;
  /** Finds the disk in the image; undefined: it is the disk. @throws ImageError when there is none */
  readonly find?: ((image: ReadDisk) => Promise<ReadDisk>) | undefined;
  /** Reads the disk. */
  readonly read: (disk: ReadDisk) => AsyncIterable<ReadPart>;
}

/** A part of a disk. */
export const partOf = ({ read }: ReadDisk, offset: number, size: number): ReadDisk => ({
  offset,
  size,
  read: (at, length) => read(offset + at, length),
});

const whole = ({ reader }: Image): ReadDisk => ({
  offset: 0,
  size: reader.map.size,
  read: async (offset, length) => reader.read(offset, length),
});

/** Opens, reads and closes a file. @throws all errors that are not about its data */
export async function openAndRead(request: OpenRequest): Promise<Opened> {
  const { coding, check, input, cache, onLine, read } = request;
  const { find = (disk: ReadDisk) => Promise.resolve(disk) } = request;
  const lines: string[] = [];
  let image: Image | undefined;
  let disk: ReadDisk;
  try {
    image = await openImage({
      input,
      coding,
      check,
      memory: new MemoryCache(MEMORY),
      openFile: cache?.open,
      startPool: startInlinePool,
      onLine: (line) => {
        lines.push(line);
        onLine?.(line);
      },
      onProgress: () => undefined,
    });
    disk = await find(whole(image));
  } catch (error) {
    await image?.close();
    // An archiver's view of damage in a compressed archive.
    if (!(isAboutData(error) || (image !== undefined && error instanceof ReadError))) throw error;
    return { refusal: error.message, size: 0, offset: 0, parts: [], lines };
  }
  const parts: ReadPart[] = [];
  try {
    for await (const part of read(disk)) parts.push(part);
  } finally {
    await image.close();
  }
  return { refusal: undefined, size: disk.size, offset: disk.offset, parts, lines };
}

async function readPart(disk: ReadDisk, offset: number, length: number): Promise<ReadPart> {
  try {
    return { offset, length, bytes: Buffer.concat(await disk.read(offset, length)) };
  } catch (error) {
    if (!(error instanceof ReadError)) throw error;
    return { offset, length, bytes: undefined };
  }
}

/** Bytes of a request in order: no divisor of a unit. */
const STEP = 100_003;

/** Reads all in order; a request that fails is made again for each half, down to single bytes. */
export async function* inOrder(disk: ReadDisk): AsyncGenerator<ReadPart> {
  const { size } = disk;
  for (let offset = 0; offset < size; offset += STEP)
    yield* halves(disk, offset, Math.min(STEP, size - offset));
}

async function* halves(disk: ReadDisk, offset: number, length: number): AsyncGenerator<ReadPart> {
  const part = await readPart(disk, offset, length);
  if (part.bytes !== undefined || length === 1) {
    yield part;
    return;
  }
  const half = Math.ceil(length / 2);
  const first = [];
  for await (const one of halves(disk, offset, half)) first.push(one);
  yield* first;
  // Behind bytes that cannot be read, one request is enough.
  if (first.at(-1)?.bytes === undefined) yield await readPart(disk, offset + half, length - half);
  else yield* halves(disk, offset + half, length - half);
}

/** Reads at random places, several at the same time, and the first and the last bytes. */
export function atRandom(random: (below: number) => number): (disk: ReadDisk) => AsyncGenerator<ReadPart> {
  return async function* read(disk) {
    const { size } = disk;
    if (size === 0) return;
    for (let round = 0; round < 2; round++) {
      const places = Array.from({ length: 4 }, () => random(size));
      const reads = [0, size - 1, ...places].map((offset) =>
        readPart(disk, offset, Math.min(1 + random(9000), size - offset)),
      );
      yield* await Promise.all(reads);
    }
  };
}
