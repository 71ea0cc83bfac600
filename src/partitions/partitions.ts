// Finds the partitions of a disk: those that Linux would find, with Linux's numbers.
//
// Reads through a function, so that it knows neither files nor servers. Every count that the disk names is bounded.

import { CONTENTS_LENGTH, whyNoTable } from './contents.js';
import { gptTable } from './gpt.js';
import { mbrEntries, mbrTable, PROTECTIVE } from './mbr.js';
import { type DiskReader, isWithin, type Partition, PartitionError, type PartitionTable } from './table.js';

/** Reads the partition table of a disk. @throws PartitionError when it has none, or a damaged one; the errors of `read` */
export async function readPartitions(disk: DiskReader): Promise<PartitionTable> {
  const length = disk.size < BigInt(CONTENTS_LENGTH) ? Number(disk.size) : CONTENTS_LENGTH;
  const head = await disk.read(0n, length);
  const entries = mbrEntries(head);
  if (entries === undefined) throw new PartitionError(whyNoTable(head));
  // Next to a GPT, Linux ignores all other entries, also when the GPT is damaged: this one names the whole disk.
  if (entries.some(({ type }) => type === PROTECTIVE)) return gptTable(disk, entries);
  const table = await mbrTable(disk, head, entries);
  if (table.partitions.length + table.extended.length === 0) throw new PartitionError(whyNoTable(head));
  return table;
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
    const numbers = partitions.map(({ number }) => number).join(', ');
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
