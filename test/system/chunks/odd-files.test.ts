// Compressed files that are unusual or damaged, against the reference programs: the same bytes, or the same bytes up to
// the damage and an error from there on. The files are opened in process, as the chunk server opens them.
//
// Where the rule is looser: gzip and the checksums of frames are checked at the end of what they cover, so the bytes of
// a damaged file may be wrong there, as those that the reference program writes are. One program of several ignores
// bytes behind its data: see `tails`.

import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import type { PackedCoding } from '../../../src/chunks/decode/decoder.js';
import { faultsOf, type Known } from '../../support/chunks/judge.js';
import { bzip2Bases, oddBzip2Files } from '../../support/chunks/odd/bzip2.js';
import { gzipBases, oddGzipFiles } from '../../support/chunks/odd/gzip.js';
import { lz4Bases, oddLz4Files } from '../../support/chunks/odd/lz4.js';
import { cuts, flips, type OddFiles, tails } from '../../support/chunks/odd/odd-file.js';
import { oddXzFiles, xzBases } from '../../support/chunks/odd/xz.js';
import { oddZstdFiles, zstdBases } from '../../support/chunks/odd/zstd.js';
import {
  atRandom,
  inOrder,
  MemoryCacheFile,
  memoryInput,
  openAndRead,
} from '../../support/chunks/opened-file.js';
import { type Reference, referenceOf } from '../../support/chunks/reference.js';
import { createScope } from '../../support/cleanup.js';
import { mulberry } from '../../support/random.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('xz', 'gzip', 'bzip2', 'zstd', 'lz4', 'pbzip2', 'lbzip2');

type Coding = Exclude<PackedCoding, 'deflate' | 'android-sparse'>;

interface Corpus {
  readonly coding: Coding;
  readonly files: () => OddFiles;
  /** Files to damage, by name, and whether each wrong byte is found before it is served. */
  readonly bases: Readonly<Record<string, boolean>>;
}

const CORPORA: readonly Corpus[] = [
  { coding: 'xz', files: oddXzFiles, bases: xzBases },
  { coding: 'gzip', files: oddGzipFiles, bases: gzipBases },
  { coding: 'bzip2', files: oddBzip2Files, bases: bzip2Bases },
  { coding: 'zstd', files: oddZstdFiles, bases: zstdBases },
  { coding: 'lz4', files: oddLz4Files, bases: lz4Bases },
];

/** Reads a file in order, at random places, and both from a cache file. @returns the faults */
async function faults(coding: Coding, file: Buffer, reference: Reference, known: Known): Promise<string[]> {
  const cache = new MemoryCacheFile(coding);
  const found: string[] = [];
  for (const [how, kept, read] of [
    ['in order', undefined, inOrder],
    ['at random', cache, atRandom(mulberry(file.length))],
    ['again', cache, atRandom(mulberry(file.length + 1))],
  ] as const) {
    const opened = await openAndRead({ coding, input: memoryInput(file), cache: kept, read });
    const isKept = how === 'again';
    for (const fault of faultsOf(opened, reference, { ...known, isKept })) found.push(`${how}: ${fault}`);
  }
  return found;
}

describe.each(CORPORA)('$coding files', ({ coding, files: make, bases }) => {
  let files: OddFiles = {};
  beforeAll(() => {
    files = make();
  }, 240_000);

  it('of odd forms give the bytes of the reference program', { timeout: 240_000 }, async () => {
    const scope = createScope();
    const wrong: string[] = [];
    for (const [name, file] of Object.entries(files)) {
      const reference = referenceOf(coding, file, scope.path('odd'));
      const found = await faults(coding, file, reference, {});
      if (found.length > 0) wrong.push(`${name}: ${found.slice(0, 3).join('; ')} (${reference.message})`);
    }
    expect(wrong).toEqual([]);
  });

  it.each(Object.entries(bases))('damaged: %s', { timeout: 240_000 }, async (name, isChecked) => {
    const scope = createScope();
    const base = files[name];
    const image = referenceOf(coding, base, scope.path('base')).bytes;
    const wrong: string[] = [];
    const judge = async (what: string, file: Buffer, known: Known): Promise<void> => {
      const reference = referenceOf(coding, file, scope.path('odd'));
      const found = await faults(coding, file, reference, known);
      if (found.length > 0) wrong.push(`${what}: ${found.slice(0, 3).join('; ')} (${reference.message})`);
    };
    for (const { what, bytes } of cuts(base)) await judge(what, bytes, { image, isCut: true });
    for (const { what, bytes } of flips(base))
      await judge(what, bytes, { image: isChecked ? image : undefined });
    for (const { what, bytes } of tails(base)) await judge(what, bytes, {});
    expect(wrong).toEqual([]);
  });
});

it('a disk that claims more bytes than the file can hold has those that there are', async () => {
  const image = Buffer.alloc(1024 * 1024);
  // The superblock of an ext file system of 2^50 + 2^20 bytes: the trailer of gzip agrees.
  const blocks = 2n ** 38n + 2n ** 8n;
  const superblock = image.subarray(1024);
  superblock.writeUInt32LE(Number(blocks % 2n ** 32n), 4);
  superblock.writeUInt32LE(2, 24);
  superblock.writeUInt16LE(0xef53, 56);
  superblock.writeUInt32LE(0x80, 96);
  superblock.writeUInt32LE(Number(blocks / 2n ** 32n), 336);
  const read = atRandom(mulberry(1));
  const opened = await openAndRead({ coding: 'gzip', input: memoryInput(gzipSync(image)), read });
  expect(opened.size).toBe(image.length);
  for (const { offset, length, bytes } of opened.parts)
    expect(bytes?.length === length && image.indexOf(bytes, offset) === offset).toBe(true);
  expect(opened.lines).toEqual([]);
});
