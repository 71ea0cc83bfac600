// The disk label of FreeBSD, NetBSD and OpenBSD in a partition of an MBR, read as Linux reads it. Pure.

import { type DiskReader, readWithin } from './table.js';

const SECTOR = 512n;
const MAGIC = 0x82564557;
const COUNT_AT = 138;
const TABLE = 148;
const ENTRY = 16;
const MAX_ENTRIES = 16;
const FREEBSD = 0xa5;
const TYPES = [FREEBSD, 0xa6, 0xa9];
/** The entry whose place of 0 says that FreeBSD counts from the begin of the partition. */
const WHOLE = 2;

/** A range in sectors, with a type. */
interface Area {
  readonly type: number;
  readonly start: bigint;
  readonly length: bigint;
}

/** The partitions that the label in `outer` names; none where it has no label. */
export async function bsdAreas(disk: DiskReader, outer: Area): Promise<readonly Area[]> {
  if (!TYPES.includes(outer.type)) return [];
  const label = await readWithin(disk, (outer.start + 1n) * SECTOR, Number(SECTOR));
  if (label.length === 0 || label.readUInt32LE(0) !== MAGIC) return [];
  const entries = Array.from({ length: Math.min(label.readUInt16LE(COUNT_AT), MAX_ENTRIES) }, (_, i) => {
    const at = TABLE + i * ENTRY;
    const [length, start] = [label.readUInt32LE(at), label.readUInt32LE(at + 4)];
    return { type: label.readUInt8(at + 12), start: BigInt(start), length: BigInt(length) };
  });
  const isRelative = outer.type === FREEBSD && label.readUInt32LE(TABLE + WHOLE * ENTRY + 4) === 0;
  const outerEnd = outer.start + outer.length;
  return entries
    .filter(({ type, length }) => type !== 0 && length > 0n)
    .map((one) => ({ ...one, start: one.start + (isRelative ? outer.start : 0n) }))
    .filter(({ start, length }) => start >= outer.start && start + length <= outerEnd)
    .filter(({ start, length }) => start !== outer.start || length !== outer.length);
}
