// A disk in memory, for tests of pure code that reads disks.

import type { DiskReader } from '../../src/partitions/table.js';

/** Bytes as a disk. */
export function readerOf(bytes: Buffer): DiskReader {
  return {
    size: BigInt(bytes.length),
    read: async (offset, length) => bytes.subarray(Number(offset), Number(offset) + length),
  };
}
