// The bytes of simulated images: each block of 64 KiB has one value, so that a wrong place, an old version and another
// image are all seen.

import { gzipSync } from 'node:zlib';
import { UNIT, unitsOf } from '../../../src/chunks/contract/units.js';
import { seekTable } from '../../../test/support/chunks/seek-table.js';
import { storedStream } from '../../../test/support/chunks/stored-xz.js';

/** Bytes that change together. */
export const BLOCK = 64 * 1024;
/** 14 units; the last one has one block. */
export const SIZE = 13 * UNIT + BLOCK;
export const BLOCKS = SIZE / BLOCK;
export const UNITS = unitsOf(SIZE);

/** Offsets of the superblock of ext4, and of its fields. */
const SUPERBLOCK = 1024;
const [BLOCK_COUNT, MAGIC] = [4, 56];

/** The value of all bytes of a block. Some blocks are zeros, and so is a whole unit. @param image which image it is */
export function byteOf(block: number, version: number, image: number): number {
  const isZero = (block * 5 + version) % 11 === 7 || Math.floor(block / 4) % 6 === 4;
  return isZero && version % 2 === 0 ? 0 : 1 + ((block * 37 + version * 5 + image * 101) % 255);
}

/** The image of a compressed file. @param saysSize whether its beginning is that of a file system of its size */
function imageBytes(image: number, saysSize: boolean): Buffer {
  const bytes = Buffer.alloc(SIZE);
  for (let block = 0; block < BLOCKS; block++)
    bytes.fill(byteOf(block, 0, image), block * BLOCK, (block + 1) * BLOCK);
  if (!saysSize) return bytes;
  bytes.fill(0, SUPERBLOCK, 2 * SUPERBLOCK);
  bytes.writeUInt32LE(SIZE / 1024, SUPERBLOCK + BLOCK_COUNT);
  bytes.writeUInt16LE(0xef53, SUPERBLOCK + MAGIC);
  return bytes;
}

/** A zstd frame of raw blocks and of runs. */
function zstdFrame(data: Buffer, saysSize: boolean): Buffer {
  const head = saysSize ? [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0] : [0x28, 0xb5, 0x2f, 0xfd, 0, 0x70];
  const parts: Buffer[] = [Buffer.from(head)];
  if (saysSize) parts[0].writeUInt32LE(data.length, 5);
  for (let at = 0; at < data.length; at += BLOCK) {
    const block = data.subarray(at, at + BLOCK);
    const isRun = block.every((byte) => byte === block[0]);
    const bits = (block.length << 3) | (isRun ? 2 : 0) | (at + BLOCK >= data.length ? 1 : 0);
    parts.push(
      Buffer.from([bits & 0xff, (bits >> 8) & 0xff, bits >> 16]),
      isRun ? block.subarray(0, 1) : block,
    );
  }
  return Buffer.concat(parts);
}

/** Parts of so many blocks. */
function partsOf(bytes: Buffer, blocks: number): Buffer[] {
  const count = Math.ceil(bytes.length / (blocks * BLOCK));
  return Array.from({ length: count }, (_, i) =>
    bytes.subarray(i * blocks * BLOCK, (i + 1) * blocks * BLOCK),
  );
}

function seekable(bytes: Buffer, saysSizes: boolean): Buffer {
  const parts = partsOf(bytes, 7);
  const frames = parts.map((part) => zstdFrame(part, saysSizes));
  return Buffer.concat([...frames, seekTable(frames.map(({ length }, i) => [length, parts[i].length]))]);
}

const KINDS = {
  'zstd frames': {
    coding: 'zstd',
    saysSize: false,
    make: (bytes) => Buffer.concat(partsOf(bytes, 9).map((part) => zstdFrame(part, true))),
  },
  'a zstd frame that says its size': {
    coding: 'zstd',
    saysSize: true,
    make: (bytes) => zstdFrame(bytes, true),
  },
  'a seek table': { coding: 'zstd', saysSize: false, make: (bytes) => seekable(bytes, true) },
  'a seek table without sizes': { coding: 'zstd', saysSize: true, make: (bytes) => seekable(bytes, false) },
  'a gzip member that says its size': {
    coding: 'gzip',
    saysSize: true,
    make: (bytes) => gzipSync(bytes, { level: 1 }),
  },
  'gzip members': {
    coding: 'gzip',
    saysSize: false,
    make: (bytes) => Buffer.concat(partsOf(bytes, 11).map((part) => gzipSync(part, { level: 1 }))),
  },
  'xz blocks': { coding: 'xz', saysSize: false, make: (bytes) => storedStream(...partsOf(bytes, 10)) },
} as const satisfies Record<
  string,
  { coding: 'zstd' | 'gzip' | 'xz'; saysSize: boolean; make: (bytes: Buffer) => Buffer }
>;

/** The kinds of compressed files. */
export type Kind = keyof typeof KINDS;
export const ALL_KINDS = Object.keys(KINDS) as readonly Kind[];

/** A compressed file, and the image in it. */
export interface CompressedFile {
  readonly coding: 'zstd' | 'gzip' | 'xz';
  readonly file: Buffer;
  readonly bytes: Buffer;
}

const made = new Map<string, CompressedFile>();

/** The file of a kind with an image; the same object each time. */
export function compressedFile(kind: Kind, image: number): CompressedFile {
  const key = `${kind} ${image}`;
  let found = made.get(key);
  if (found === undefined) {
    const { coding, saysSize, make } = KINDS[kind];
    const bytes = imageBytes(image, saysSize);
    found = { coding, bytes, file: make(bytes) };
    made.set(key, found);
  }
  return found;
}
