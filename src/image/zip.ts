// Lists the files of a zip archive by its central directory.
//
// Used by members.ts. Every count and length that the archive names is bounded. Layout: PKWARE's APPNOTE.TXT.

import type { DiskReader } from '../partitions/table.js';
import { ImageError } from './errors.js';
import type { Member } from './member.js';
import { utf8 } from './reference.js';

const END = 0x06054b50;
const END_LENGTH = 22;
const MAX_COMMENT = 65_535;
const LOCATOR = 0x07064b50;
const LOCATOR_LENGTH = 20;
const END_64 = 0x06064b50;
const END_64_LENGTH = 56;
const ENTRY = 0x02014b50;
const ENTRY_LENGTH = 46;
const LOCAL = 0x04034b50;
const LOCAL_LENGTH = 30;
const MAX_DIRECTORY = 64 * 1024 * 1024;
const [ENCRYPTED, DESCRIPTOR] = [1, 8];
/** Systems on which an archive was made, and the type of a regular file in their modes. */
const [UNIX, MACOS] = [3, 19];
const REGULAR_TYPE = 8;
const [STORED, ZIP_64] = [0, 1];
/** The most bytes of a file: no disk has more, and a number counts no further. */
const MAX_SIZE = BigInt(Number.MAX_SAFE_INTEGER);
/** Methods of compression that the chunk server decodes. */
const CODINGS: Readonly<Record<number, Member['coding']>> = {
  8: 'deflate',
  12: 'bzip2',
  93: 'zstd',
  95: 'xz',
};
/** Methods that unzip knows; those of 7z and WinZip, and AES, are others. */
const METHODS_OF_UNZIP = [0, 1, 6, 8, 9, 12];
const [NONE_32, NONE_16] = [0xffff_ffff, 0xffff];

/** The central directory. */
interface Directory {
  readonly offset: bigint;
  readonly size: bigint;
  /** Bytes before the archive, which its offsets do not count: a program that unpacks it, another archive. */
  readonly before: bigint;
}

const damaged = (shown: string): ImageError =>
  new ImageError(`${shown} is damaged, or ends too early: get it again, and check it with unzip -t`);

const lastPart = (shown: string): ImageError =>
  new ImageError(
    `${shown} is the last part of a divided zip archive: join the parts first (zip -s 0 --out whole.zip)`,
  );

async function within(
  shown: string,
  { size, read }: DiskReader,
  at: bigint,
  length: bigint,
): Promise<Buffer> {
  if (at < 0n || length > BigInt(MAX_DIRECTORY) || at + length > size) throw damaged(shown);
  return read(at, Number(length));
}

/** The place of the record that ends the directory, which a comment may follow; -1: there is none. */
function endOfDirectory(tail: Buffer): number {
  let found = -1;
  for (let at = tail.length - END_LENGTH; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END) continue;
    // A comment may contain such a record, and bytes that do not belong to the archive may follow it.
    if (at + END_LENGTH + tail.readUInt16LE(at + 20) === tail.length) return at;
    if (found < 0) found = at;
  }
  return found;
}

async function directoryOf(shown: string, file: DiskReader): Promise<Directory> {
  const longest = BigInt(END_LENGTH + MAX_COMMENT);
  const from = file.size > longest ? file.size - longest : 0n;
  const tail = await within(shown, file, from, file.size - from);
  const at = endOfDirectory(tail);
  if (at < 0) throw damaged(shown);
  const [size, offset] = [tail.readUInt32LE(at + 12), tail.readUInt32LE(at + 16)];
  const counts = [tail.readUInt16LE(at + 4), tail.readUInt16LE(at + 6)];
  const isLong = size === NONE_32 || offset === NONE_32 || counts.includes(NONE_16);
  if (!isLong && counts.some((count) => count !== 0)) throw lastPart(shown);
  const locatorAt = from + BigInt(at - LOCATOR_LENGTH);
  const locator =
    locatorAt < 0n ? Buffer.alloc(4) : await within(shown, file, locatorAt, BigInt(LOCATOR_LENGTH));
  if (locator.readUInt32LE(0) !== LOCATOR) {
    if (isLong) throw damaged(shown);
    return placed(shown, file, { offset: BigInt(offset), size: BigInt(size) }, from + BigInt(at));
  }
  const named = locator.readBigUInt64LE(8);
  // Bytes before the archive displace this record, which usually lies before its locator.
  for (const endAt of [named, locatorAt - BigInt(END_64_LENGTH)]) {
    const end = await within(shown, file, endAt, BigInt(END_64_LENGTH));
    if (end.readUInt32LE(0) !== END_64) continue;
    return placed(shown, file, { size: end.readBigUInt64LE(40), offset: end.readBigUInt64LE(48) }, endAt);
  }
  throw damaged(shown);
}

/** Finds the directory at its offset, or before the record at `end` that names it. */
async function placed(
  shown: string,
  file: DiskReader,
  { offset, size }: Pick<Directory, 'offset' | 'size'>,
  end: bigint,
): Promise<Directory> {
  const before = end - size - offset;
  if (size < ENTRY_LENGTH || before <= 0n) return { offset, size, before: 0n };
  const mark = await within(shown, file, offset, 4n);
  return { offset, size, before: mark.readUInt32LE(0) === ENTRY ? 0n : before };
}

/** The numbers of an entry that do not fit into 32 bits, from its extra field, in their order. */
function longNumbers(extra: Buffer): bigint[] {
  for (let at = 0; at + 4 <= extra.length; ) {
    const [id, length] = [extra.readUInt16LE(at), extra.readUInt16LE(at + 2)];
    const part = extra.subarray(at + 4, at + 4 + length);
    if (id === ZIP_64) {
      return Array.from({ length: part.length >> 3 }, (_, i) => part.readBigUInt64LE(8 * i));
    }
    at += 4 + length;
  }
  return [];
}

/** An entry of the directory. */
interface Entry {
  readonly name: string;
  /** Bytes in the archive. */
  readonly size: bigint;
  readonly decodedSize: bigint;
  readonly crc: number;
  readonly coding: Member['coding'];
  /** The place of its local header. */
  readonly header: bigint;
  readonly isBroken: boolean;
  /** Whether it is a directory, a symbolic link or another file without contents of its own. */
  readonly isSpecial: boolean;
  readonly problem: Member['problem'];
  readonly unpackedBy: Member['unpackedBy'];
  /** Where the next entry begins. */
  readonly end: number;
}

/** By the mode that Unix records: the type of a regular file, or none. */
function isSpecialMode(mode: number, madeOn: number | undefined): boolean {
  const type = mode >> 12;
  return (madeOn === UNIX || madeOn === MACOS) && type !== 0 && type !== REGULAR_TYPE;
}

function entryAt(directory: Buffer, at: number): Entry {
  const short = (offset: number): number => directory.readUInt16LE(at + offset);
  const nameEnd = at + ENTRY_LENGTH + short(28);
  const extraEnd = nameEnd + short(30);
  const bytes = directory.subarray(at + ENTRY_LENGTH, nameEnd);
  const longs = longNumbers(directory.subarray(nameEnd, extraEnd));
  const number = (offset: number): bigint => {
    const value = directory.readUInt32LE(at + offset);
    return value === NONE_32 ? (longs.shift() ?? BigInt(value)) : BigInt(value);
  };
  const [size, packed, header] = [number(24), number(20), number(42)];
  const name = utf8(bytes) || bytes.toString('latin1');
  const method = short(10);
  const coding = CODINGS[method];
  const isOther = method !== STORED && coding === undefined;
  const isShort = method === STORED && packed !== size && (short(8) & ENCRYPTED) === 0;
  return {
    name,
    size: packed,
    decodedSize: size,
    crc: directory.readUInt32LE(at + 16),
    coding,
    header,
    isSpecial: name.endsWith('/') || isSpecialMode(directory.readUInt32LE(at + 38) >>> 16, directory[at + 5]),
    isBroken: isShort || size > MAX_SIZE,
    problem: (short(8) & ENCRYPTED) !== 0 ? 'encrypted' : isOther ? 'compressed' : undefined,
    unpackedBy: METHODS_OF_UNZIP.includes(method) ? undefined : '7z x',
    end: extraEnd + short(32),
  };
}

/** The facts about the decoded bytes of a file. @param local its other header, which may have no CRC yet */
function checkOf({ coding, crc, decodedSize }: Entry, local: Buffer): Member['check'] {
  if (coding === undefined) return undefined;
  const other = (local.readUInt16LE(6) & DESCRIPTOR) === 0 ? local.readUInt32LE(14) : crc;
  return { crcs: other === crc ? [crc] : [crc, other], size: Number(decodedSize) };
}

/** The files of a zip archive. @throws ImageError when it is damaged; the errors of `read` */
export async function zipMembers(shown: string, file: DiskReader): Promise<readonly Member[]> {
  const { offset, size, before } = await directoryOf(shown, file);
  const directory = await within(shown, file, before + offset, size);
  const members: Member[] = [];
  for (let at = 0; at + ENTRY_LENGTH <= directory.length; ) {
    if (directory.readUInt32LE(at) !== ENTRY) throw damaged(shown);
    const entry = entryAt(directory, at);
    at = entry.end;
    if (at > directory.length || entry.isBroken) throw damaged(shown);
    if (entry.isSpecial) continue;
    const local = await within(shown, file, before + entry.header, BigInt(LOCAL_LENGTH));
    if (local.readUInt32LE(0) !== LOCAL) throw damaged(shown);
    const start =
      before + entry.header + BigInt(LOCAL_LENGTH + local.readUInt16LE(26) + local.readUInt16LE(28));
    if (entry.problem === undefined && start + entry.size > file.size) throw damaged(shown);
    const { name, size: length, coding, problem, unpackedBy } = entry;
    const check = checkOf(entry, local);
    members.push({ name, offset: start, size: length, coding, check, problem, unpackedBy });
  }
  return members;
}
