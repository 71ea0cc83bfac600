// The terms of this room: a disk to read, its partitions, and the error of a disk without them.

/** A disk to read. */
export interface DiskReader {
  readonly size: bigint;
  /** Reads a range within the disk. */
  read(offset: bigint, length: number): Promise<Buffer>;
}

/** A partition of a disk. Its texts come from the disk: escape them before you show them. */
export interface Partition {
  /** Linux's number. */
  readonly number: number;
  /** In bytes. */
  readonly offset: bigint;
  readonly size: bigint;
  /** A GPT's GUID, or an MBR's byte as `0x83`. */
  readonly type: string;
  /** The name in a GPT; an MBR has none. */
  readonly label: string;
  /** PARTUUID of Linux; empty where it gives none. */
  readonly uuid: string;
}

/** The partitions of a disk. */
export interface PartitionTable {
  readonly kind: 'MBR' | 'GPT';
  /** In the order of their numbers. */
  readonly partitions: readonly Partition[];
  /** Numbers of the extended partitions of an MBR, which only contain others. */
  readonly extended: readonly number[];
  /** A line for the user about damage. */
  readonly warning: string | undefined;
}

/** A disk has no partitions that can be served. `message` is one printable line. */
export class PartitionError extends Error {
  override name = 'PartitionError';
}

/** Most numbers and ranges of them in a message. */
const MAX_LISTED = 12;

/** `p1, p2, p5 to p64`: numbers of partitions, which ascend. */
export function numbersText(numbers: readonly number[], prefix = ''): string {
  const runs: number[][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run?.at(-1) === number - 1) run.push(number);
    else runs.push([number]);
  }
  const texts = runs.flatMap((run) =>
    run.length < 4
      ? run.map((number) => `${prefix}${number}`)
      : [`${prefix}${run[0]} to ${prefix}${run.at(-1)}`],
  );
  return [...texts.slice(0, MAX_LISTED), ...(texts.length > MAX_LISTED ? ['…'] : [])].join(', ');
}

/** The bytes of a range; none where it is not within the disk. */
export async function readWithin(disk: DiskReader, offset: bigint, length: number): Promise<Buffer> {
  if (offset < 0n || offset + BigInt(length) > disk.size) return Buffer.alloc(0);
  return disk.read(offset, length);
}

/** Whether a partition has bytes, all of them on the disk. */
export function isWithin({ offset, size }: Partition, disk: Pick<DiskReader, 'size'>): boolean {
  return size > 0n && offset + size <= disk.size;
}
