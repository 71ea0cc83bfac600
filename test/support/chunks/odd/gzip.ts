// Odd gzip files: some by `gzip`, some put together from fields (RFC 1952).

import { constants, deflateRawSync, type ZlibOptions } from 'node:zlib';
import { crc32 } from '../../../../src/partitions/crc32.js';
import { DISK, IMAGE, noise, type OddFiles, pack, packPieces } from './odd-file.js';

const FLAGS = { text: 1, headerCrc: 2, extra: 4, name: 8, comment: 16 } as const;
/** Bytes of a block of bgzip, at most. */
const BGZF_BLOCK = 65_280;

interface Fields {
  readonly extra?: Buffer;
  readonly name?: string;
  readonly comment?: string;
  readonly hasHeaderCrc?: boolean;
  readonly isText?: boolean;
}

function headerOf({ extra, name, comment, hasHeaderCrc, isText }: Fields): Buffer {
  const flags =
    (extra === undefined ? 0 : FLAGS.extra) |
    (name === undefined ? 0 : FLAGS.name) |
    (comment === undefined ? 0 : FLAGS.comment) |
    (hasHeaderCrc ? FLAGS.headerCrc : 0) |
    (isText ? FLAGS.text : 0);
  const parts: Buffer[] = [Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3])];
  if (extra !== undefined) {
    const length = Buffer.alloc(2);
    length.writeUInt16LE(extra.length);
    parts.push(length, extra);
  }
  for (const text of [name, comment]) if (text !== undefined) parts.push(Buffer.from(`${text}\0`));
  const header = Buffer.concat(parts);
  const check = Buffer.alloc(hasHeaderCrc ? 2 : 0);
  if (hasHeaderCrc) check.writeUInt16LE(crc32(header) & 0xffff);
  return Buffer.concat([header, check]);
}

/** A member. */
function member(data: Buffer, fields: Fields = {}, options: ZlibOptions = {}): Buffer {
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(data));
  trailer.writeUInt32LE(data.length, 4);
  return Buffer.concat([headerOf(fields), deflateRawSync(data, options), trailer]);
}

/** A member whose data are flushed after each part, as pigz does. */
function flushed(flush: number, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < IMAGE.length; at += length)
    parts.push(deflateRawSync(IMAGE.subarray(at, at + length), { finishFlush: flush }));
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(IMAGE));
  trailer.writeUInt32LE(IMAGE.length, 4);
  return Buffer.concat([headerOf({}), ...parts, deflateRawSync(Buffer.alloc(0)), trailer]);
}

/** A file as bgzip makes it: a member for each block, whose header has the member's length, and an empty one. */
function bgzf(data: Buffer): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at <= data.length; at += BGZF_BLOCK) {
    const part = data.subarray(at, at + BGZF_BLOCK);
    const extra = Buffer.from([0x42, 0x43, 2, 0, 0, 0]);
    const length = member(part, { extra }).length;
    extra.writeUInt16LE(length - 1, 4);
    blocks.push(member(part, { extra }));
  }
  return Buffer.concat([
    ...blocks,
    member(Buffer.alloc(0), { extra: Buffer.from([0x42, 0x43, 2, 0, 27, 0]) }),
  ]);
}

export function oddGzipFiles(): OddFiles {
  const members = packPieces('gzip -1', 1, 300_000);
  const empty = pack(Buffer.alloc(0), 'gzip');
  const large = Buffer.concat([IMAGE, noise(900_000, 2), IMAGE, IMAGE, IMAGE]);
  return {
    'one member': pack(IMAGE, 'gzip -6'),
    'restart points in a member': pack(large, 'gzip -1'),
    'a disk that says its size': pack(DISK, 'gzip -1'),
    'several members': Buffer.concat(members),
    'zeros at the end': Buffer.concat([members[2], Buffer.alloc(5000)]),
    'one zero at the end': Buffer.concat([members[2], Buffer.alloc(1)]),
    'an empty member': empty,
    'empty members around data': Buffer.concat([
      empty,
      empty,
      members[0],
      empty,
      members[1],
      members[2],
      empty,
    ]),
    'one byte': pack(Buffer.from('x'), 'gzip'),
    'members of bgzip': bgzf(IMAGE),
    'a name, a comment and an extra field': member(IMAGE, {
      extra: noise(300, 1),
      name: 'disk.img',
      comment: 'a comment that is longer than the name',
      isText: true,
    }),
    'a checked header': member(IMAGE, { extra: Buffer.alloc(0), name: '', hasHeaderCrc: true }),
    'a large extra field': member(IMAGE, { extra: noise(65_535, 4), hasHeaderCrc: true }),
    'stored blocks': member(IMAGE, {}, { level: 0 }),
    'fixed codes': member(IMAGE, {}, { strategy: constants.Z_FIXED }),
    'runs only': member(IMAGE, {}, { strategy: constants.Z_RLE }),
    'a small window': member(IMAGE, {}, { windowBits: 9 }),
    'bytes that do not compress': member(noise(700_001, 9)),
    'no compression': member(IMAGE, {}, { level: 0 }),
    'gzip --rsyncable': pack(IMAGE, 'gzip -6 --rsyncable'),
    'zeros between members': Buffer.concat([members[2], Buffer.alloc(512), members[1]]),
    'a record of a tape': Buffer.concat([members[2], Buffer.alloc(-members[2].length & 10_239)]),
    'parts of pigz': flushed(constants.Z_SYNC_FLUSH, 131_072),
    'independent parts of pigz': flushed(constants.Z_FULL_FLUSH, 131_072),
    'many empty blocks': flushed(constants.Z_FULL_FLUSH, 7000),
  };
}

/** Files to damage, and whether each wrong byte is found before it is served. */
export const gzipBases: Readonly<Record<string, boolean>> = {
  'one member': false,
  'members of bgzip': false,
  'a checked header': false,
  'a disk that says its size': false,
  'one byte': false,
};
