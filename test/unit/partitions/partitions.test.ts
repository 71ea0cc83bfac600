// Partition tables that sfdisk does not write: damaged, endless, for large sectors, and disks without one.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findPartition, readPartitions } from '../../../src/partitions/partitions.js';
import { numbersText } from '../../../src/partitions/table.js';
import { readerOf } from '../../support/disk-reader.js';
import { type Entry, mbrSector } from '../../support/partitions.js';

/** A disk of 512-byte sectors with tables at some of them. */
function diskWith(sectors: number, tables: Readonly<Record<number, readonly (Entry | undefined)[]>>): Buffer {
  const disk = Buffer.alloc(sectors * 512);
  for (const [sector, entries] of Object.entries(tables)) disk.set(mbrSector(entries), Number(sector) * 512);
  return disk;
}

async function numbersOf(disk: Buffer): Promise<readonly (readonly [number, bigint])[]> {
  const { partitions } = await readPartitions(readerOf(disk));
  return partitions.map(({ number, offset }) => [number, offset / 512n] as const);
}

it('partition table: warns of an MBR for sectors of 4096 bytes', async () => {
  const disk = diskWith(4096, { 0: [[0x83, 8, 8], undefined, [0x83, 64, 64]] });
  const warningOf = async (): Promise<string | undefined> => (await readPartitions(readerOf(disk))).warning;
  expect(await warningOf()).toBeUndefined();
  disk.write('XFSB', 64 * 4096);
  expect(await warningOf()).toMatch(/^the partition table seems to be one for sectors of 4096 bytes, /);
  disk.write('XFSB', 8 * 512);
  expect(await warningOf()).toBeUndefined();
});

describe('partition table', () => {
  const NONE = 'the disk has no partition table';
  const at = (offset: number, text: string): Buffer => {
    const disk = Buffer.alloc(65_536);
    disk.write(text, offset, 'latin1');
    return disk;
  };
  it.each([
    ['an empty disk', Buffer.alloc(65_536), `${NONE}: mount it as a whole`],
    ['a short disk', Buffer.alloc(100), `${NONE}: mount it as a whole`],
    ['a disk without bytes', Buffer.alloc(0), `${NONE}: mount it as a whole`],
    ['an MBR without entries', diskWith(10, { 0: [] }), `${NONE}: mount it as a whole`],
    ['ext4', at(1080, '\x53\xef'), `${NONE}, but an ext2, ext3 or ext4 file system: mount it as a whole`],
    ['XFS', at(0, 'XFSB'), `${NONE}, but an XFS file system: mount it as a whole`],
    [
      'an Apple table',
      at(512, 'PM\0'),
      /^the disk has an Apple partition map: mount the whole disk, and use/,
    ],
    ['a Sun label', at(508, '\xda\xbe'), /^the disk has a Sun disk label: /],
    ['a GPT without an MBR', at(512, 'EFI PART'), /^the disk has a GPT that its MBR does not protect/],
  ] as const)('reports that there is none: %s', async (_, disk, message) => {
    await expect(readPartitions(readerOf(disk))).rejects.toThrow(message);
  });

  it.each([
    ['NTFS', 3, 'NTFS    ', 'an NTFS file system'],
    ['FAT', 54, 'FAT16   ', 'a FAT file system'],
    ['exFAT', 3, 'EXFAT   ', 'an exFAT file system'],
  ])('does not take the boot sector of %s for one', async (_, offset, mark, name) => {
    const disk = diskWith(10, { 0: [[0x83, 2, 4]] });
    disk.write(mark, offset, 'latin1');
    disk.write('Remove disks', 446);
    await expect(readPartitions(readerOf(disk))).rejects.toThrow(`${NONE}, but ${name}: mount it as a whole`);
  });

  it('names types and identifiers', async () => {
    const disk = diskWith(100, { 0: [[0xc, 10, 5]] });
    disk.writeUInt32LE(0xabc, 440);
    expect((await readPartitions(readerOf(disk))).partitions).toEqual([
      { number: 1, offset: 5120n, size: 2560n, type: '0xc', label: '', uuid: '00000abc-01' },
    ]);
  });

  it('counts an entry by its size, not by its type', async () => {
    const disk = diskWith(100, { 0: [[0, 0, 60], undefined, [0x83, 5, 0], [0x83, 20, 5]] });
    expect(await numbersOf(disk)).toEqual([
      [1, 0n],
      [4, 20n],
    ]);
  });

  it('stops at logical partitions that form a circle', async () => {
    const circle: Record<number, readonly Entry[]> = {
      0: [[5, 10, 100]],
      10: [
        [0x83, 1, 5],
        [5, 10, 10],
      ],
      20: [
        [0x83, 1, 5],
        [5, 0, 10],
      ],
    };
    expect(await numbersOf(diskWith(1024, circle))).toEqual([
      [5, 11n],
      [6, 21n],
    ]);
  });

  it('stops at an endless chain of logical partitions', async () => {
    let reads = 0;
    const disk = {
      size: 1n << 60n,
      read: async () => mbrSector(reads++ === 0 ? [[5, 10, 100]] : [undefined, [5, reads, 10]]),
    };
    expect((await readPartitions(disk)).partitions).toEqual([]);
    expect(reads).toBeLessThan(200);
  });

  it('reads at most 255 numbers from a chain that has a partition in each link', async () => {
    let reads = 0;
    const disk = {
      size: 1n << 60n,
      read: async () =>
        mbrSector(
          reads++ === 0
            ? [[5, 10, 100]]
            : [
                [0x83, 1, 1],
                [5, reads, 10],
              ],
        ),
    };
    expect((await readPartitions(disk)).partitions.at(-1)?.number).toBe(255);
  });

  it('refuses a partition that reaches beyond the disk, a missing and an extended one', async () => {
    const disk = readerOf(
      diskWith(100, {
        0: [
          [0x83, 50, 51],
          [5, 10, 30],
        ],
        10: [[0x83, 1, 5]],
      }),
    );
    await expect(findPartition(disk, 1)).rejects.toThrow('partition 1 is not within the disk of 51200 bytes');
    await expect(findPartition(disk, 3)).rejects.toThrow('the disk has no partition 3: it has 1, 5');
    await expect(findPartition(disk, 2)).rejects.toThrow(
      'partition 2 is extended, which only contains others: the disk has 1, 5',
    );
  });

  it('survives any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        fc.boolean(),
        async (table, isGpt) => {
          const disk = Buffer.alloc(64 * 512, 0xaa);
          disk.set(table, 446);
          for (const at of [446, 462, 478, 494]) disk[at] &= 0x80;
          if (isGpt) disk[450] = 0xee;
          for (let sector = 0; sector < 64; sector++) disk.writeUInt16LE(0xaa55, sector * 512 + 510);
          if (isGpt) disk.write('EFI PART', 512);
          const found = await readPartitions(readerOf(disk)).catch((error: Error) => error.message);
          if (typeof found !== 'string') expect(found.partitions.length).toBeLessThan(256);
        },
      ),
    );
  });
});

it('partition table: a long list of numbers is a short text', () => {
  const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);
  expect(numbersText([])).toBe('');
  expect(numbersText([1, 2, 5], 'p')).toBe('p1, p2, p5');
  expect(numbersText([1, ...upTo(64).slice(4)], 'p')).toBe('p1, p5 to p64');
  const odd = upTo(128).filter((number) => number % 2 === 1);
  expect(numbersText(odd)).toBe('1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, …');
});

it('partition table: the boot code of a file system protects no GPT', async () => {
  const sector = Buffer.alloc(4096, 0xee);
  sector.write('NTFS    ', 3);
  sector.writeUInt16LE(0xaa55, 510);
  await expect(readPartitions(readerOf(sector))).rejects.toThrow('an NTFS file system');
});
