// Odd tar archives, by GNU tar, and some with changed headers.

import { archived, MEMBER } from './archiver.js';
import { type OddFiles, pack } from './odd-file.js';

const LONG = `${'directory/'.repeat(15)}${'x'.repeat(120)}`;

/** An archive with the disk and files around it. @param names members besides README */
const tar = (options: string, names: string = MEMBER): Buffer =>
  archived(`tar ${options} -cf archive README ${names}`);

/** The header at `at` with a changed field, and a right checksum. */
function withField(archive: Buffer, at: number, place: number, field: Buffer | string): Buffer {
  const changed = Buffer.from(archive);
  const bytes = Buffer.from(field);
  bytes.copy(changed, at + place);
  changed.fill(' ', at + 148, at + 156);
  const sum = changed.subarray(at, at + 512).reduce((all, byte) => all + byte, 0);
  changed.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148);
  return changed;
}

/** Where the header of the disk is in an archive that begins with README. */
const HEADER = 1024;

/** Archives with the disk `a.img`, or the name that stands before them. */
export function oddTarFiles(): OddFiles {
  const gnu = tar('--format=gnu');
  const digits = gnu.toString('latin1', HEADER + 124, HEADER + 135).replace(/^0+/, '');
  const size = Number.parseInt(digits, 8);
  const binary = Buffer.alloc(12);
  binary[0] = 0x80;
  binary.writeUInt32BE(size, 8);
  return {
    gnu,
    'the old format': tar('--format=v7'),
    'the old format of GNU tar': tar('--format=oldgnu'),
    ustar: tar('--format=ustar'),
    pax: tar('--format=pax'),
    'pax with times and a comment': tar(
      "--format=pax --pax-option='comment=of the archive,foo:=of the file'",
    ),
    'a size in binary': withField(gnu, HEADER, 124, binary),
    'a size with spaces': withField(gnu, HEADER, 124, `${digits.padStart(11)} `),
    'a contiguous file': withField(gnu, HEADER, 156, '7'),
    'a file of type NUL': withField(gnu, HEADER, 156, '\0'),
    'a label': tar('--format=gnu -V label'),
    'an incremental backup': archived(
      'mkdir d && cp a.img d && tar --format=gnu -g list -cf archive d README a.img',
    ),
    'links, a pipe and directories': archived(
      'mkdir d && ln -s a.img link && ln a.img hard && mkfifo pipe && tar -cf archive d link pipe a.img hard',
    ),
    'a file with holes, not sparse': archived('mv holes.img a.img; tar -cf archive README a.img'),
    'another sparse file': tar('--format=gnu -S', 'holes.img a.img'),
    'another sparse file of many parts': archived(
      'rm holes.img; for i in 1 3 5 7 9 11 13 15 17; do dd if=README of=holes.img bs=1 seek="$i"0000 2>/dev/null; done; truncate -s 2M holes.img; tar --format=gnu -S -cf archive holes.img a.img',
    ),
    'another sparse file in pax': tar('--format=pax -S', 'holes.img a.img'),
    'other long names': archived(
      `mkdir -p ${LONG} && cp b.img ${LONG} && tar --format=gnu -cf archive directory a.img`,
    ),
    'other long names in pax': archived(
      `mkdir -p ${LONG} && cp b.img ${LONG} && tar --format=pax -cf archive directory a.img`,
    ),
    'other long links': archived(`ln -s ${LONG} link && tar --format=gnu -cf archive link a.img`),
    'no end': gnu.subarray(0, HEADER + 512 + Math.ceil(size / 512) * 512),
    'one block of zeros at the end': gnu.subarray(0, HEADER + 1024 + Math.ceil(size / 512) * 512),
    'large blocks': tar('--format=gnu -b 2048'),
    'text behind it': Buffer.concat([gnu, Buffer.from('text\n')]),
    'no bytes': archived('mv empty.img a.img; tar -cf archive README a.img'),
    'a disk that says its size': archived('mv disk.img a.img; tar -cf archive README a.img'),
  };
}

/** Archives with a disk of a long name. */
export function longTarFiles(): Readonly<Record<string, readonly [Buffer, string]>> {
  const files: Record<string, readonly [Buffer, string]> = {};
  for (const [format, name] of [
    ['gnu', `${LONG}/a.img`],
    ['pax', `${LONG}/a.img`],
    ['ustar', `${'directory/'.repeat(12)}a.img`],
    ['gnu', `${'x'.repeat(94)}-a.img`],
    ['pax', 'ä€𐍈 a.img'],
    ['gnu', 'ä€𐍈 a.img'],
    ['gnu', './a.img'],
  ] as const) {
    const script = `mkdir -p "$(dirname '${name}')" && cp a.img new && mv new '${name}' && tar --format=${format} -cf archive '${name}'`;
    files[`${format}: ${name.length} letters, ${name.slice(0, 12)}`] = [archived(script), name];
  }
  return files;
}

/** Archives with a sparse disk, which nbdfuse refuses. */
export function sparseTarFiles(): OddFiles {
  const sparse = (options: string): Buffer =>
    archived(`mv holes.img a.img; tar ${options} -S -cf archive a.img`);
  return {
    'GNU tar': sparse('--format=gnu'),
    'pax 0.0': sparse('--format=pax --sparse-version=0.0'),
    'pax 0.1': sparse('--format=pax --sparse-version=0.1'),
    'pax 1.0': sparse('--format=pax --sparse-version=1.0'),
  };
}

/** Compressors of archives. */
export const TAR_CODINGS = {
  gzip: 'gzip -1',
  xz: 'xz -1 --block-size=100000',
  zstd: 'zstd -q',
  bzip2: 'bzip2 -1',
  lz4: 'lz4 -q -B4 -c',
} as const;

/** An archive as a whole, compressed. */
export const packTar = (archive: Buffer, coding: keyof typeof TAR_CODINGS): Buffer =>
  pack(archive, TAR_CODINGS[coding]);
