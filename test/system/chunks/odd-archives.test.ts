// Disks in archives that are unusual or damaged, against `unzip -p` and `tar -xO`: see odd-files.test.ts.
//
// The rule is looser for a disk that the archive only stores: nobody checks its bytes.

import { beforeAll, describe, expect, it } from 'vitest';
import type { Coding } from '../../../src/chunks/contract/coding.js';
import { rangedInput } from '../../../src/chunks/input/ranged-input.js';
import { ImageError } from '../../../src/image/errors.js';
import { type FoundMember, findMember } from '../../../src/image/members.js';
import { faultsOf, type Known } from '../../support/chunks/judge.js';
import { MEMBER } from '../../support/chunks/odd/archiver.js';
import { cuts, type Damaged, flips, IMAGE, type OddFiles, tails } from '../../support/chunks/odd/odd-file.js';
import {
  longTarFiles,
  oddTarFiles,
  packTar,
  sparseTarFiles,
  TAR_CODINGS,
} from '../../support/chunks/odd/tar.js';
import { oddZipFiles, refusedZipFiles, zipBases } from '../../support/chunks/odd/zip.js';
import {
  atRandom,
  inOrder,
  MemoryCacheFile,
  memoryInput,
  type Opened,
  openAndRead,
  partOf,
  type ReadDisk,
} from '../../support/chunks/opened-file.js';
import { memberReference, type Reference } from '../../support/chunks/reference.js';
import { createScope } from '../../support/cleanup.js';
import { readerOf } from '../../support/disk-reader.js';
import { mulberry } from '../../support/random.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('zip', 'unzip', 'tar', 'gzip', 'xz', 'zstd', 'bzip2', 'lz4');

const REQUEST = {
  shown: 'FILE',
  isCompressed: false,
  requested: { format: undefined, compression: undefined },
  wanted: MEMBER,
} as const;

type Reading = Pick<Parameters<typeof openAndRead>[0], 'cache' | 'read'>;

/** Opens, reads and closes the disk in a zip archive. */
async function readZip(archive: Buffer, reading: Reading): Promise<Opened> {
  let member: FoundMember;
  try {
    member = await findMember({ ...REQUEST, kind: 'zip' }, readerOf(archive));
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return { refusal: error.message, size: 0, offset: 0, parts: [], lines: [] };
  }
  const { range, coding = 'plain', check } = member;
  const place = { offset: Number(range.offset), length: Number(range.size) };
  return openAndRead({ ...reading, coding, check, input: rangedInput(memoryInput(archive), place) });
}

/** Opens, reads and closes a disk in a tar archive that may be compressed as a whole. */
function readTar(archive: Buffer, coding: Coding, wanted: string, reading: Reading): Promise<Opened> {
  const find = async (image: ReadDisk): Promise<ReadDisk> => {
    const file = {
      size: BigInt(image.size),
      read: async (at: bigint, length: number) => Buffer.concat(await image.read(Number(at), length)),
    };
    const isCompressed = coding !== 'plain';
    const { range } = await findMember({ ...REQUEST, kind: 'tar', isCompressed, wanted }, file);
    return partOf(image, Number(range.offset), Number(range.size));
  };
  return openAndRead({ ...reading, coding, input: memoryInput(archive), find });
}

/** Reads a disk in order, at random places, and both from a cache file. @returns the faults */
async function faults(
  read: (reading: Reading) => Promise<Opened>,
  reference: Reference,
  known: Known,
): Promise<string[]> {
  const cache = new MemoryCacheFile('archive');
  const found: string[] = [];
  for (const [how, kept, way] of [
    ['in order', undefined, inOrder],
    ['at random', cache, atRandom(mulberry(reference.bytes.length))],
    ['again', cache, atRandom(mulberry(reference.bytes.length + 1))],
  ] as const) {
    const opened = await read({ cache: kept, read: way });
    for (const fault of faultsOf(opened, reference, { ...known, isKept: how === 'again' }))
      found.push(`${how}: ${fault}`);
  }
  return found;
}

describe('zip archives', () => {
  let files: OddFiles = {};
  beforeAll(() => {
    files = oddZipFiles();
  }, 240_000);

  const judge = async (archive: Buffer, path: string, known: Known): Promise<string | undefined> => {
    const reference = memberReference('unzip', { archive, member: MEMBER }, path);
    const found = await faults((reading) => readZip(archive, reading), reference, known);
    return found.length === 0 ? undefined : `${found.slice(0, 3).join('; ')} (${reference.message})`;
  };

  it('of odd forms give the bytes of unzip', { timeout: 240_000 }, async () => {
    const scope = createScope();
    const wrong: string[] = [];
    for (const [name, archive] of Object.entries(files)) {
      const fault = await judge(archive, scope.path('odd.zip'), { isWhole: true });
      if (fault !== undefined) wrong.push(`${name}: ${fault}`);
    }
    expect(wrong).toEqual([]);
  });

  it('that unzip refuses give the right bytes, or a line', { timeout: 240_000 }, async () => {
    const scope = createScope();
    const wrong: string[] = [];
    for (const [name, [archive, isRight]] of Object.entries(refusedZipFiles())) {
      const known = { image: isRight ? IMAGE : undefined, isUnchecked: isRight };
      const fault = await judge(archive, scope.path('odd.zip'), known);
      if (fault !== undefined) wrong.push(`${name}: ${fault}`);
    }
    expect(wrong).toEqual([]);
  });

  it.each(Object.entries(zipBases))('damaged: %s', { timeout: 240_000 }, async (name, isUnchecked) => {
    const scope = createScope();
    const base = files[name];
    const wrong: string[] = [];
    // unzip guesses where a damaged directory ends.
    const known = { isUnchecked, mayBeRefused: true };
    const check = async ({ what, bytes: archive }: Damaged): Promise<void> => {
      const fault = await judge(archive, scope.path('odd.zip'), known);
      if (fault !== undefined) wrong.push(`${what}: ${fault}`);
    };
    for (const damaged of [...cuts(base), ...flips(base), ...tails(base)]) await check(damaged);
    expect(wrong).toEqual([]);
  });
});

describe('tar archives', () => {
  const CODINGS = Object.keys(TAR_CODINGS) as (keyof typeof TAR_CODINGS)[];
  let files: OddFiles = {};
  beforeAll(() => {
    files = oddTarFiles();
  }, 240_000);

  interface Packed {
    readonly archive: Buffer;
    readonly coding: Coding;
    readonly member?: string;
  }

  const judge = async (
    { archive, coding, member = MEMBER }: Packed,
    path: string,
    known: Known,
  ): Promise<string | undefined> => {
    const reference = memberReference('tar', { archive, member }, path);
    const found = await faults((reading) => readTar(archive, coding, member, reading), reference, known);
    return found.length === 0 ? undefined : `${found.slice(0, 3).join('; ')} (${reference.message})`;
  };

  it('of odd forms give the bytes of tar', { timeout: 240_000 }, async () => {
    const scope = createScope();
    const wrong: string[] = [];
    for (const [name, archive] of Object.entries(files)) {
      for (const coding of ['plain', 'gzip'] as const) {
        const packed = coding === 'plain' ? archive : packTar(archive, coding);
        const fault = await judge({ archive: packed, coding }, scope.path('odd'), { isWhole: true });
        if (fault !== undefined) wrong.push(`${name}, ${coding}: ${fault}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('with long names give the bytes of tar', { timeout: 240_000 }, async () => {
    const scope = createScope();
    const wrong: string[] = [];
    for (const [name, [archive, member]] of Object.entries(longTarFiles())) {
      const packed = { archive, coding: 'plain', member } as const;
      const fault = await judge(packed, scope.path('odd'), { isWhole: true });
      if (fault !== undefined) wrong.push(`${name}: ${fault}`);
    }
    expect(wrong).toEqual([]);
  });

  it('with a sparse disk are refused by name', { timeout: 240_000 }, async () => {
    for (const [name, archive] of Object.entries(sparseTarFiles())) {
      const { refusal } = await readTar(archive, 'plain', MEMBER, { cache: undefined, read: inOrder });
      expect(refusal, name).toMatch(
        /^FILE: a\.img is sparse in the archive, .*: unpack it first \(tar -xf\)$/,
      );
    }
  });

  it.each(CODINGS)('damaged, in %s', { timeout: 240_000 }, async (coding) => {
    const scope = createScope();
    const base = packTar(files['a disk that says its size'], coding);
    const wrong: string[] = [];
    // tar refuses an archive for damage behind the disk, and nbdfuse one whose headers cannot be read.
    const known = { mayBeRefused: true };
    const check = async ({ what, bytes: archive }: Damaged): Promise<void> => {
      const fault = await judge({ archive, coding }, scope.path('odd'), known);
      if (fault !== undefined) wrong.push(`${what}: ${fault}`);
    };
    for (const damaged of [...cuts(base), ...flips(base)]) await check(damaged);
    expect(wrong).toEqual([]);
  });
});
