// Odd zip archives: some by `zip`, some put together from fields (PKWARE's APPNOTE.TXT).

import { deflateRawSync } from 'node:zlib';
import { crc32 } from '../../../../src/partitions/crc32.js';
import { archived, MEMBER } from './archiver.js';
import { IMAGE, noise, type OddFiles } from './odd-file.js';

/** Differences of an archive from a usual one. */
interface Fields {
  readonly localCrc?: number;
  readonly crc?: number;
  readonly localSize?: number;
  readonly size?: number;
  readonly flags?: number;
  readonly localExtra?: Buffer;
  readonly extra?: Buffer;
  /** Bytes between the data and the directory. */
  readonly gap?: Buffer;
}

/** An archive of one deflated file. */
function zipOf(fields: Fields, image = IMAGE): Buffer {
  const { flags = 0, localExtra = Buffer.alloc(0), extra = Buffer.alloc(0), gap = Buffer.alloc(0) } = fields;
  const [data, right, name] = [deflateRawSync(image), crc32(image), Buffer.from(MEMBER)];
  const common = (crc: number, size: number, extraLength: number): Buffer => {
    const bytes = Buffer.alloc(26);
    bytes.writeUInt16LE(20);
    bytes.writeUInt16LE(flags, 2);
    bytes.writeUInt16LE(8, 4);
    bytes.writeUInt16LE(0x21, 8);
    bytes.writeUInt32LE(crc, 10);
    bytes.writeUInt32LE(data.length, 14);
    bytes.writeUInt32LE(size, 18);
    bytes.writeUInt16LE(name.length, 22);
    bytes.writeUInt16LE(extraLength, 24);
    return bytes;
  };
  const { localCrc = right, localSize = image.length, crc = right, size = image.length } = fields;
  const local = [Buffer.from('PK\x03\x04'), common(localCrc, localSize, localExtra.length), name, localExtra];
  const before = Buffer.concat([...local, data, gap]);
  const rest = [Buffer.alloc(14), name, extra];
  const entry = Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), common(crc, size, extra.length), ...rest]);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(entry.length, 12);
  end.writeUInt32LE(before.length, 16);
  return Buffer.concat([before, entry, end]);
}

/** An extra field. */
function extraField(id: number, data: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(id);
  head.writeUInt16LE(data.length, 2);
  return Buffer.concat([head, data]);
}

/** Archives with `a.img`. */
export function oddZipFiles(): OddFiles {
  const usual = archived('zip -q archive.zip a.img && mv archive.zip archive');
  const zip = (options: string, names = MEMBER): Buffer =>
    archived(`zip -q ${options} archive.zip ${names} && mv archive.zip archive`);
  return {
    deflated: usual,
    'deflated by zip -1': zip('-1'),
    'deflated by zip -9': zip('-9'),
    'a disk that says its size': archived('mv disk.img a.img; zip -q z a.img; mv z.zip archive'),
    'no bytes': archived('mv empty.img a.img; zip -q z a.img; mv z.zip archive'),
    'no bytes, deflated': zipOf({}, Buffer.alloc(0)),
    'one byte': archived('printf x >a.img; zip -q z a.img; mv z.zip archive'),
    stored: zip('-0'),
    'compressed with bzip2': zip('-Z bzip2'),
    'a data descriptor': zip('-fd'),
    'a stored file with a data descriptor': zip('-0 -fd'),
    'a stream': archived('zip -q - a.img | cat >archive'),
    'numbers of 64 bits': zip('-fz'),
    'two disks': zip('', 'b.img a.img README'),
    'a comment': archived('zip -q z a.img; echo comment | zip -qz z.zip; mv z.zip archive'),
    'a comment of the file': archived('echo of the file | zip -qc z a.img; mv z.zip archive'),
    'no extra fields': zip('-X'),
    'large extra fields': zipOf({
      localExtra: extraField(0x9999, noise(40_000, 1)),
      extra: extraField(0x9999, noise(30_000, 2)),
    }),
    'extra fields of one side only': zipOf({ extra: extraField(0x9999, Buffer.alloc(5)) }),
    'text behind it': Buffer.concat([usual, Buffer.from('text\n')]),
    'zeros behind it': Buffer.concat([usual, Buffer.alloc(5000)]),
    'another archive before it': Buffer.concat([zip('-1', 'b.img'), usual]),
    'another archive before it, numbers of 64 bits': Buffer.concat([usual, zip('-fz')]),
    'a program before it': Buffer.concat([Buffer.from('#!/bin/sh\nexit\n'), usual]),
    'a program before it, and right offsets': archived(
      "zip -q z a.img; printf '#!/bin/sh\\nexit\\n' | cat - z.zip >x.zip; zip -qA x.zip; mv x.zip archive",
    ),
    'bytes before the directory': zipOf({ gap: noise(1000, 3) }),
    'a name in a directory': archived('mkdir d; cp a.img d; zip -qr z d; zip -q z a.img; mv z.zip archive'),
    'an updated file': archived(
      'cp b.img a.img; zip -q z a.img README; cp disk.img a.img; zip -q z a.img; mv z.zip archive',
    ),
    'a CRC that only the header of the file has': zipOf({ crc: 1 }),
    'a size that only the header of the file has': zipOf({ size: 1 }),
    'a wrong size': zipOf({ size: 1000, localSize: 1000 }),
  };
}

/** Archives that `unzip` refuses, and whether nbdfuse gives the right bytes. */
export function refusedZipFiles(): Readonly<Record<string, readonly [Buffer, boolean]>> {
  return {
    'a CRC that only the directory has': [zipOf({ localCrc: 1 }), true],
    'numbers of 64 bits, and a data descriptor': [archived('zip -q -fz -fd z a.img; mv z.zip archive'), true],
    'a wrong CRC': [zipOf({ crc: 1, localCrc: 1 }), false],
    'a wrong CRC, and a data descriptor': [zipOf({ crc: 1, localCrc: 0, localSize: 0, flags: 8 }), false],
    'an encrypted disk': [archived('zip -q -P secret z a.img; mv z.zip archive'), false],
  };
}

/** Files to damage, and whether nothing checks their bytes. */
export const zipBases: Readonly<Record<string, boolean>> = {
  deflated: false,
  'a disk that says its size': false,
  'one byte': true,
  stored: true,
  'a data descriptor': false,
  'compressed with bzip2': false,
};
