// Lists the files of a tar archive by its headers.
//
// Used by members.ts. Layouts: pax in POSIX.1-2017, and the GNU tar manual, chapter "Tar Internals".

import type { DiskReader } from '../partitions/table.js';
import { ImageError } from './errors.js';
import { isTarHeader } from './foreign.js';
import type { Member } from './member.js';
import { utf8 } from './reference.js';

const BLOCK = 512n;
const MAX_HEADERS = 100_000;
/** Maximum bytes of an extended header. */
const MAX_EXTENDED = 1024 * 1024;
const REGULAR = ['0', '\0', '7'];
/** Entries without data, whatever their size field says: links, devices, directories, pipes. */
const WITHOUT_DATA = ['1', '2', '3', '4', '5', '6'];
const [SPARSE, LONG_NAME, LONG_LINK, EXTENDED, GLOBAL] = ['S', 'L', 'K', 'x', 'g'];

const damaged = (shown: string): ImageError =>
  new ImageError(`${shown} is damaged, or ends too early: get it again, and check it with tar -tf`);

const text = (bytes: Buffer): string => {
  const nul = bytes.indexOf(0);
  const used = nul < 0 ? bytes : bytes.subarray(0, nul);
  return utf8(used) || used.toString('latin1');
};

/** A number in octal digits, or in binary after a byte of 0x80. */
function numberOf(field: Buffer): bigint {
  if (((field[0] ?? 0) & 0x80) !== 0) {
    return BigInt(`0x${Buffer.from([(field[0] ?? 0) & 0x7f, ...field.subarray(1)]).toString('hex')}`);
  }
  const digits = /^[ \0]*([0-7]*)[ \0]*$/.exec(field.toString('latin1'))?.[1] ?? '';
  return digits === '' ? 0n : BigInt(`0o${digits}`);
}

/** The records of an extended header: `18 path=disk.img`, each with its length and a newline. */
function recordsOf(data: Buffer): ReadonlyMap<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < data.length; ) {
    const length = Number(/^(\d{1,7}) /.exec(data.toString('latin1', at, at + 8))?.[1] ?? Number.NaN);
    if (!(length > 0)) break;
    const record = data.subarray(at, at + length - 1);
    const [start, equals] = [record.indexOf(' ') + 1, record.indexOf('=')];
    if (equals > 0) records.set(record.toString('latin1', start, equals), text(record.subarray(equals + 1)));
    at += length;
  }
  return records;
}

/** Properties of the next file that stand before its own header. */
interface Ahead {
  readonly name?: string;
  readonly records?: ReadonlyMap<string, string>;
}

function nameOf(header: Buffer, { name, records }: Ahead): string {
  const own = text(header.subarray(0, 100));
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? text(header.subarray(345, 500)) : '';
  const plain = prefix === '' ? own : `${prefix}/${own}`;
  return records?.get('GNU.sparse.name') ?? records?.get('path') ?? name ?? plain;
}

function isSparse(type: string, records: Ahead['records']): boolean {
  return type === SPARSE || [...(records?.keys() ?? [])].some((key) => key.startsWith('GNU.sparse.'));
}

function sizeOf(header: Buffer, type: string, { records }: Ahead): bigint {
  if (WITHOUT_DATA.includes(type)) return 0n;
  const recorded = records?.get('size');
  return recorded !== undefined && /^\d{1,19}$/.test(recorded)
    ? BigInt(recorded)
    : numberOf(header.subarray(124, 136));
}

/** The files of a tar archive. @throws ImageError when it is damaged; the errors of `read` */
export async function tarMembers(shown: string, file: DiskReader): Promise<readonly Member[]> {
  const members: Member[] = [];
  let ahead: Ahead = {};
  let at = 0n;
  for (let count = 0; at + BLOCK <= file.size; count++) {
    const header = await file.read(at, Number(BLOCK));
    if (header.every((byte) => byte === 0)) break;
    if (!isTarHeader(header) || count >= MAX_HEADERS) throw damaged(shown);
    const type = header.toString('latin1', 156, 157);
    const size = sizeOf(header, type, ahead);
    const start = at + BLOCK;
    if (start + size > file.size) throw damaged(shown);
    at = start + ((size + BLOCK - 1n) / BLOCK) * BLOCK;
    if ([LONG_NAME, LONG_LINK, EXTENDED, GLOBAL].includes(type)) {
      if (size > MAX_EXTENDED) throw damaged(shown);
      const data = await file.read(start, Number(size));
      if (type === LONG_NAME) ahead = { ...ahead, name: text(data) };
      if (type === EXTENDED) ahead = { ...ahead, records: recordsOf(data) };
      continue;
    }
    const name = nameOf(header, ahead);
    const problem = isSparse(type, ahead.records) ? 'sparse' : undefined;
    // GNU tar keeps the rest of the map of an old sparse file behind its header; the data cannot be skipped.
    if ((REGULAR.includes(type) || type === SPARSE) && !name.endsWith('/')) {
      members.push({ name, offset: start, size, problem });
    }
    if (type === SPARSE && header[482] !== 0) at = await afterSparseMap(shown, file, start, size);
    ahead = {};
  }
  return members;
}

/** The place behind the data of an old sparse file of GNU tar, whose map goes on in further blocks. */
async function afterSparseMap(shown: string, file: DiskReader, start: bigint, size: bigint): Promise<bigint> {
  const most = start + BigInt(MAX_HEADERS) * BLOCK;
  for (let at = start; at + BLOCK <= file.size && at < most; at += BLOCK) {
    const block = await file.read(at, Number(BLOCK));
    if (block[504] === 0) return at + BLOCK + ((size + BLOCK - 1n) / BLOCK) * BLOCK;
  }
  throw damaged(shown);
}
