// Partition tables that sfdisk does not write: damaged, endless, for large sectors.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type DiskReader, findPartition, readPartitions } from '../../../src/image/partitions.js';

function diskOf(bytes: Buffer): DiskReader {
  return {
    size: BigInt(bytes.length),
    read: async (offset, length) => bytes.subarray(Number(offset), Number(offset) + length),
  };
}

/** Type, first sector, number of sectors. */
type Entry = readonly [number, number, number];

/** Writes an entry of the MBR in a sector. */
function putEntry(disk: Buffer, sector: number, i: number, [type, start, length]: Entry): void {
  const at = sector * 512 + 446 + i * 16;
  disk[at + 4] = type;
  disk.writeUInt32LE(start, at + 8);
  disk.writeUInt32LE(length, at + 12);
  disk.writeUInt16LE(0xaa55, sector * 512 + 510);
}

it('partition table: reports that there is none', async () => {
  await expect(readPartitions(diskOf(Buffer.alloc(65_536)))).rejects.toThrow(
    'the disk has no partition table',
  );
  await expect(readPartitions(diskOf(Buffer.alloc(100)))).rejects.toThrow('the disk has no partition table');
});

it('partition table: reads a GPT for sectors of 4096 bytes', async () => {
  const disk = Buffer.alloc(100 * 4096);
  putEntry(disk, 0, 0, [0xee, 1, 99]);
  disk.write('EFI PART', 4096);
  disk.writeBigUInt64LE(2n, 4096 + 72);
  disk.writeUInt32LE(128, 4096 + 80);
  disk.writeUInt32LE(128, 4096 + 84);
  disk.fill(7, 2 * 4096 + 128, 2 * 4096 + 144); // entry 2: type
  disk.writeBigUInt64LE(10n, 2 * 4096 + 128 + 32);
  disk.writeBigUInt64LE(19n, 2 * 4096 + 128 + 40);
  expect(await readPartitions(diskOf(disk))).toEqual([{ number: 2, offset: 40_960n, size: 40_960n }]);
});

it('partition table: stops at logical partitions that form a circle', async () => {
  const disk = Buffer.alloc(1024 * 512);
  putEntry(disk, 0, 0, [5, 10, 100]);
  putEntry(disk, 10, 0, [0x83, 1, 5]);
  putEntry(disk, 10, 1, [5, 10, 10]);
  putEntry(disk, 20, 0, [0x83, 1, 5]);
  putEntry(disk, 20, 1, [5, 0, 10]);
  expect((await readPartitions(diskOf(disk))).map(({ number, offset }) => [number, offset])).toEqual([
    [5, 11n * 512n],
    [6, 21n * 512n],
  ]);
});

it('partition table: stops at an endless chain of logical partitions', async () => {
  const table = Buffer.alloc(512);
  putEntry(table, 0, 0, [5, 10, 100]);
  putEntry(table, 0, 1, [5, 0, 10]);
  let reads = 0;
  const disk = {
    size: 1n << 60n,
    read: async () => {
      // Each names the next.
      table.writeUInt32LE(++reads, 446 + 16 + 8);
      table[446 + 4] = reads === 1 ? 5 : 0;
      return Buffer.from(table);
    },
  };
  expect(await readPartitions(disk)).toEqual([]);
  expect(reads).toBeLessThan(5000);
});

it('partition table: refuses a partition that reaches beyond the disk', async () => {
  const disk = Buffer.alloc(100 * 512);
  putEntry(disk, 0, 0, [0x83, 50, 51]);
  await expect(findPartition(diskOf(disk), 1)).rejects.toThrow(
    'partition 1 is not within the disk of 51200 bytes',
  );
  await expect(findPartition(diskOf(disk), 2)).rejects.toThrow('the disk has no partition 2: it has 1');
});

it('partition table: survives any bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.boolean(), async (table, isGpt) => {
      const disk = Buffer.alloc(64 * 512, 0xaa);
      disk.set(table, 446);
      for (let sector = 0; sector < 64; sector++) disk.writeUInt16LE(0xaa55, sector * 512 + 510);
      if (isGpt) disk.write('EFI PART', 512);
      const found = await readPartitions(diskOf(disk)).catch((error: Error) => error.message);
      expect(found.length).toBeLessThan(1200);
    }),
  );
});
