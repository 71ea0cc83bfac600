// Parsers of headers: short and random bytes, with the magic numbers in their places, give a result or an error for the
// user, and no other error.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { refuseReferences } from '../../../src/image/chain.js';
import { chooseCompression, chooseFormat } from '../../../src/image/choice.js';
import { refuseDmg, unknownCoding } from '../../../src/image/dmg.js';
import { decryptionOf, formatWithKey } from '../../../src/image/encryption.js';
import { ImageError } from '../../../src/image/errors.js';
import { foreignOf } from '../../../src/image/foreign.js';
import type { ImageFormat } from '../../../src/image/formats.js';
import { archiveToOpen, isDisk } from '../../../src/image/members.js';
import { refuseChild } from '../../../src/image/parents.js';
import { referencesOf } from '../../../src/image/references.js';
import { tarMembers } from '../../../src/image/tar.js';
import { neededOfDataFile, truncationOf } from '../../../src/image/truncated.js';
import { parseVmdk, refuseExtent } from '../../../src/image/vmdk.js';
import { zipMembers } from '../../../src/image/zip.js';
import { claimedSizes } from '../../../src/partitions/claimed-sizes.js';
import { readPartitions } from '../../../src/partitions/partitions.js';
import { PartitionError } from '../../../src/partitions/table.js';
import { readerOf } from '../../support/disk-reader.js';

const FORMATS: readonly ImageFormat[] = [
  ...(['raw', 'qcow2', 'qcow', 'qed', 'vdi', 'vhd', 'vhdx', 'vmdk'] as const),
  ...(['parallels', 'dmg', 'bochs', 'cloop', 'luks'] as const),
];

const guid = (hex: string): string => Buffer.from(hex, 'hex').toString('latin1');

/** Marks of formats, at their places from the beginning or the end. */
const MARKS: readonly (readonly [number, string])[] = [
  [0, 'QFI\xfb\0\0\0\x01'],
  [0, 'QFI\xfb\0\0\0\x02'],
  [0, 'QFI\xfb\0\0\0\x03'],
  [0, 'QED\0'],
  [0, 'KDMV'],
  [0, 'COWD'],
  [0, '# Disk DescriptorFile\nRW 1 FLAT "a"\nparentFileNameHint="'],
  [0x40, '\x7f\x10\xda\xbe'],
  [0, 'vhdxfile'],
  [0, 'conectix'],
  [-512, 'conectix'],
  [-512, 'koly'],
  [-30, 'koly'],
  [0, 'LUKS\xba\xbe'],
  [0, 'PK\x03\x04'],
  [-22, 'PK\x05\x06'],
  [-42, 'PK\x06\x07'],
  [0, 'PK\x01\x02'],
  [510, '\x55\xaa'],
  [512, 'EFI PART'],
  [1024, 'XFSB'],
  [1080, '\x53\xef'],
  [32_769, 'CD001'],
  [192 * 1024, `regi\0\0\0\0\x01\0\0\0\0\0\0\0${guid('06a27c8b90479a4bb8fe575f050f886e')}`],
  // The place of the metadata region: its offset, and a length of 0 to 40 bytes.
  ...[0, 8, 9, 11, 12, 31, 40].map(
    (length) => [192 * 1024 + 32, `\0\x04\x03\0\0\0\0\0${String.fromCharCode(length)}\0\0\0`] as const,
  ),
  [0x3_04_00, 'metadata'],
  [0x3_04_00 + 32, guid('3767a1ca36fa434db3b633f0aa44e76b')],
];

/** Files of a few bytes, of some sectors, and of more than a region table of a VHDX. */
const image = fc
  .record({
    length: fc.oneof(
      fc.integer({ min: 0, max: 600 }),
      fc.integer({ min: 0, max: 70_000 }),
      fc.constant(320 * 1024),
    ),
    marks: fc.subarray([...MARKS], { minLength: 0, maxLength: MARKS.length }),
    noise: fc.uint8Array({ minLength: 0, maxLength: 600 }),
    noiseAt: fc.oneof(fc.constant(0), fc.constant(8), fc.integer({ min: 0, max: 2000 })),
  })
  .map(({ length, marks, noise, noiseAt }) => {
    const bytes = Buffer.alloc(length);
    bytes.set(noise.subarray(0, Math.max(0, length - noiseAt)), Math.min(noiseAt, length));
    for (const [at, mark] of marks) {
      const place = at < 0 ? length + at : at;
      if (place >= 0 && place < length) bytes.write(mark, place, 'latin1');
    }
    return bytes;
  });

/** Runs a parser. @throws an error that is none for the user */
async function attempt(parse: () => unknown): Promise<void> {
  try {
    await parse();
  } catch (error) {
    if (!(error instanceof ImageError || error instanceof PartitionError)) throw error;
  }
}

describe('headers of images', () => {
  it('are parsed or refused, however short and wrong they are', async () => {
    await fc.assert(
      fc.asyncProperty(image, fc.integer({ min: 0, max: 512 }), async (bytes, tailLength) => {
        const head = bytes.subarray(0, 65_536);
        const tail = bytes.subarray(Math.max(0, bytes.length - tailLength));
        const file = readerOf(bytes);
        const read = <T>(use: (disk: typeof file) => Promise<T>): Promise<T> => use(file);
        const nothing = { format: undefined, compression: undefined };
        for (const format of FORMATS) {
          await attempt(() => refuseChild('x', format, { head, tail }, read));
          await attempt(() => truncationOf('x', format, head, file));
          await attempt(() => refuseReferences('x', format, head));
          await attempt(() => referencesOf(format, head));
          await attempt(() => decryptionOf(format, head));
          await attempt(() => formatWithKey('x', format, head));
        }
        for (const name of ['x.vmdk', 'x.qcow2.xz', 'x.zip', 'x']) {
          await attempt(() => chooseFormat({ name, head, tail }, nothing));
          await attempt(() => chooseCompression({ name, head }, nothing));
          await attempt(() => archiveToOpen({ name, head }, nothing, undefined));
          await attempt(() => isDisk(name, head));
        }
        await attempt(() => neededOfDataFile(file, head));
        await attempt(() => refuseDmg('x', tail));
        if (tail.length === 512) await attempt(() => unknownCoding(file, tail));
        await attempt(() => refuseExtent('x', head));
        await attempt(() => parseVmdk(head));
        await attempt(() => foreignOf(head, tail));
        await attempt(() => zipMembers('x', file));
        await attempt(() => tarMembers('x', file));
        await attempt(() => readPartitions(file));
        await attempt(() => claimedSizes(head));
      }),
      { numRuns: 400 },
    );
  });

  it.each([0, 8, 9, 11, 12, 31, 32])('of a VHDX may have metadata of %i bytes', async (length) => {
    const bytes = Buffer.alloc(320 * 1024);
    for (const [at, mark] of MARKS.slice(-3)) bytes.write(mark, at, 'latin1');
    bytes.write('vhdxfile');
    bytes.write(MARKS.find(([, mark]) => mark.startsWith('regi'))?.[1] ?? '', 192 * 1024, 'latin1');
    bytes.writeBigUInt64LE(0x3_04_00n, 192 * 1024 + 32);
    bytes.writeUInt32LE(length, 192 * 1024 + 40);
    const look = { head: bytes.subarray(0, 65_536), tail: bytes.subarray(-512) };
    await expect(refuseChild('x', 'vhdx', look, (use) => use(readerOf(bytes)))).resolves.toBeUndefined();
  });
});

describe('tar archive', () => {
  it('has a bounded map of a sparse file', async () => {
    const header = Buffer.alloc(512);
    header.write('disk', 0);
    header.write('S', 156);
    header.write('00000000000', 124);
    header[482] = 1;
    header.fill(' ', 148, 156);
    const sum = header.reduce((all, byte) => all + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    let reads = 0;
    const file = {
      size: 2n ** 40n,
      read: async (offset: bigint): Promise<Buffer> => {
        reads += 1;
        return offset === 0n ? header : Buffer.alloc(512, 1);
      },
    };
    await expect(tarMembers('x', file)).rejects.toThrow('is damaged');
    expect(reads).toBeLessThan(200_000);
  });
});
