// Compressed files whose tables of contents are forged, against the reference programs: each byte that can be read in
// order is the one that the program writes, or of the file before it was forged.
//
// At a random place, an index whose own checksum is right is believed until the part before it has been decoded.

import { expect, it } from 'vitest';
import { type Forgery, forgedBgzf, forgedXz, forgedZstd } from '../../support/chunks/forged.js';
import {
  inOrder,
  MemoryCacheFile,
  memoryInput,
  type Opened,
  openAndRead,
} from '../../support/chunks/opened-file.js';
import { referenceOf } from '../../support/chunks/reference.js';
import { createScope } from '../../support/cleanup.js';
import { mulberry } from '../../support/random.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('xz', 'zstd', 'gzip');

const SEED = Number(process.env.FORGED_SEED ?? 1);
const FILES = Number(process.env.FORGED_FILES ?? 12);

/** Offsets of reads with other bytes. */
function wrongParts({ parts }: Opened, written: Buffer, image: Buffer): number[] {
  const isRight = (bytes: Uint8Array, offset: number): boolean => {
    const common = Math.max(0, Math.min(bytes.length, written.length - offset));
    const rest = image.subarray(offset + common, offset + bytes.length);
    return (
      Buffer.compare(bytes.subarray(0, common), written.subarray(offset, offset + common)) === 0 &&
      Buffer.compare(bytes.subarray(common), rest) === 0
    );
  };
  return parts
    .filter(({ offset, bytes }) => bytes !== undefined && !isRight(bytes, offset))
    .map(({ offset }) => offset);
}

const KINDS = { xz: forgedXz, zstd: forgedZstd, gzip: forgedBgzf } as const;

it.each(['xz', 'zstd', 'gzip'] as const)(
  'a forged table of contents never displaces bytes that are read in order: %s',
  { timeout: 240_000 },
  async (coding) => {
    const scope = createScope();
    const random = mulberry(SEED);
    const wrong: string[] = [];
    for (let i = 0; i < FILES; i++) {
      const { what, file, image }: Forgery = KINDS[coding](random);
      const reference = referenceOf(coding, file, scope.path('forged'));
      const cache = new MemoryCacheFile(coding);
      for (let mount = 0; mount < 2; mount++) {
        const opened = await openAndRead({ coding, input: memoryInput(file), cache, read: inOrder });
        const [first] = wrongParts(opened, reference.bytes, image);
        if (first !== undefined) wrong.push(`${what}: mount ${mount}, byte ${first} (${reference.message})`);
      }
    }
    expect(wrong).toEqual([]);
  },
);
