// Finds the partitions of a disk: those that Linux would find, with Linux's numbers.
//
// Reads through a function, so that it knows neither files nor servers. Every count that the disk names is bounded.

import { CONTENTS_LENGTH, fileSystemOf, whyNoTable } from './contents.js';
import { gptTable } from './gpt.js';
import { mbrEntries, mbrTable, protectedEntries } from './mbr.js';
import {
  type DiskReader,
  isWithin,
  numbersText,
  type Partition,
  PartitionError,
  type PartitionTable,
  readWithin,
} from './table.js';

/** Reads the partition table of a disk. @throws PartitionError when it has none, or a damaged one; the errors of `read` */
export async function readPartitions(disk: DiskReader): Promise<PartitionTable> {
  const length = disk.size < BigInt(CONTENTS_LENGTH) ? Number(disk.size) : CONTENTS_LENGTH;
  const head = await disk.read(0n, length);
  // Next to a GPT, Linux ignores all other entries, also when the GPT is damaged: this one names the whole disk.
  const protecting = protectedEntries(head);
  if (protecting !== undefined) return gptTable(disk, protecting);
  const entries = mbrEntries(head);
  if (entries === undefined) throw new PartitionError(whyNoTable(head));
  const table = await mbrTable(disk, head, entries);
  if (table.partitions.length + table.extended.length === 0) throw new PartitionError(whyNoTable(head));
  return { ...table, warning: table.warning ?? (await wrongSectors(disk, table)) };
}

/** How many sectors of 512 bytes the sectors of a disk with 4096 bytes have. */
const LARGE_SECTOR = 8n;

/** Warns of an MBR for sectors of 4096 bytes: by its numbers, file systems begin at eight times the places of Linux. */
async function wrongSectors(disk: DiskReader, { partitions }: PartitionTable): Promise<string | undefined> {
  let isElsewhere = false;
  for (const { offset } of partitions) {
    if (fileSystemOf(await readWithin(disk, offset, CONTENTS_LENGTH)) !== undefined) return undefined;
    const elsewhere = await readWithin(disk, offset * LARGE_SECTOR, CONTENTS_LENGTH);
    isElsewhere ||= fileSystemOf(elsewhere) !== undefined;
  }
  if (!isElsewhere) return undefined;
  return (
    'the partition table seems to be one for sectors of 4096 bytes, and nbdfuse reads it as one for 512: ' +
    'mount the whole disk, and use losetup --sector-size 4096 --partscan on its file'
  );
}

/** A partition, and a line for the user about damage. */
export interface FoundPartition {
  readonly partition: Partition;
  readonly warning: string | undefined;
}

/** @throws PartitionError when there is no such partition, or it is not within the disk */
export async function findPartition(disk: DiskReader, wanted: number): Promise<FoundPartition> {
  const { partitions, extended, warning } = await readPartitions(disk);
  const partition = partitions.find(({ number }) => number === wanted);
  if (partition === undefined) {
    const numbers = numbersText(partitions.map(({ number }) => number));
    const why = extended.includes(wanted)
      ? `partition ${wanted} is extended, which only contains others: the disk has`
      : `the disk has no partition ${wanted}: it has`;
    throw new PartitionError(`${why} ${numbers === '' ? 'none' : numbers}`);
  }
  if (!isWithin(partition, disk)) {
    throw new PartitionError(`partition ${wanted} is not within the disk of ${disk.size} bytes`);
  }
  return { partition, warning };
}
