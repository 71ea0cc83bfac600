// Odd zstd files: frames of `zstd`, skippable frames, and seek tables that are right or wrong.

import { type FrameLengths as Entry, seekTable, skippable } from '../seek-table.js';
import { archived } from './archiver.js';
import { DISK, IMAGE, noise, type OddFiles, pack, packPieces } from './odd-file.js';

/** Frames of different lengths, and their entries. @param isSized whether each says its length */
function seekable(
  isSized: boolean,
  image = IMAGE,
): { readonly frames: readonly Buffer[]; readonly entries: readonly Entry[] } {
  const ends = [60_000, 130_000, 131_000, 262_200, 300_000, image.length];
  const parts = ends.map((end, i) => image.subarray(ends[i - 1] ?? 0, end));
  const frames = parts.map((part) =>
    pack(part, isSized ? `zstd -q --stream-size=${part.length}` : 'zstd -q'),
  );
  return { frames, entries: frames.map(({ length }, i) => [length, parts[i].length]) };
}

/** Changes of the entries of a table. */
type Change = (entries: [number, number][]) => readonly Entry[];

const shift =
  (which: number, compressed: number, decoded: number): Change =>
  (entries) => {
    entries[which][0] += compressed;
    entries[which + 1][0] -= compressed;
    entries[which][1] += decoded;
    entries[which + 1][1] -= decoded;
    return entries;
  };

const WRONG: Readonly<Record<string, Change>> = {
  'a wrong place': shift(1, 3, 0),
  'a wrong length': shift(1, 0, 70),
  'a wrong length of the first frame': shift(0, 0, -59_999),
  'a wrong length of the last frame': shift(4, 0, 1),
  'a wrong place and length': shift(3, 5, -1000),
  'two frames in one': ([first, second, ...rest]) => [[first[0] + second[0], first[1] + second[1]], ...rest],
  'a reverse order': (entries) => entries.reverse(),
  'too many bytes': ([first, ...rest]) => [[first[0], first[1] + 5000], ...rest],
  'too few bytes': ([first, ...rest]) => [[first[0], first[1] - 5000], ...rest],
  'no last frame': (entries) => entries.slice(0, -1),
  'one frame more': (entries) => [...entries, [0, 100]],
  'one empty frame more': (entries) => [...entries, [0, 0]],
};

/** Files whose frames are right, and whose seek tables are wrong. */
function wrongTables(): OddFiles {
  const files: Record<string, Buffer> = {};
  for (const isSized of [false, true]) {
    const { frames, entries } = seekable(isSized);
    for (const [what, change] of Object.entries(WRONG)) {
      const table = seekTable(change(entries.map(([compressed, decoded]) => [compressed, decoded])));
      files[`a seek table with ${what}, frames ${isSized ? 'with' : 'without'} sizes`] = Buffer.concat([
        ...frames,
        table,
      ]);
    }
  }
  return files;
}

/** A frame that needs a dictionary. @param isNumbered whether its header says so */
function withDictionary(isNumbered: boolean): Buffer {
  const make = isNumbered
    ? 'split -b 1000 a.img part. && zstd -q --train part.* -o dictionary'
    : 'head -c 50000 a.img >dictionary';
  return archived(`${make} && zstd -q -D dictionary a.img -o archive`);
}

export function oddZstdFiles(): OddFiles {
  const frames = packPieces('zstd -q -3', 1, 300_000);
  const empty = pack(Buffer.alloc(0), 'zstd -q');
  const right = seekable(true);
  const unsized = seekable(false);
  const ofDisk = seekable(false, DISK);
  const sized = pack(IMAGE, `zstd -q -3 --stream-size=${IMAGE.length}`);
  return {
    'one frame': pack(IMAGE, 'zstd -q -3'),
    'a frame that says its size': sized,
    'a disk that says its size': pack(DISK, `zstd -q -3 --stream-size=${DISK.length}`),
    'no checksum': pack(IMAGE, 'zstd -q -3 --no-check'),
    'several frames': Buffer.concat(frames),
    'frames with and without sizes': Buffer.concat([sized, frames[1], sized]),
    'skippable frames': Buffer.concat([
      skippable(Buffer.alloc(0)),
      skippable(noise(70_000, 1), 15),
      frames[0],
      skippable(Buffer.from('between'), 3),
      frames[1],
      frames[2],
      skippable(noise(300, 2), 7),
    ]),
    'only a skippable frame': skippable(Buffer.from('nothing')),
    'an empty frame': empty,
    'empty frames around data': Buffer.concat([empty, empty, frames[0], empty, frames[1], frames[2], empty]),
    'one byte': pack(Buffer.from('x'), 'zstd -q'),
    'a window of 128 MiB': pack(IMAGE, 'zstd -q -3 --long=27'),
    'a window of 2 GiB': pack(IMAGE, 'zstd -q -3 --long=31'),
    'the highest level': pack(IMAGE, 'zstd -q --ultra -22'),
    'a negative level': pack(IMAGE, 'zstd -q --fast=100'),
    'parts of several threads': pack(Buffer.concat([IMAGE, IMAGE, IMAGE, IMAGE]), 'zstd -q -1 -T2 -B524288'),
    'small blocks': pack(IMAGE, 'zstd -q --target-compressed-block-size=1340'),
    'frames of pzstd': pack(IMAGE, 'pzstd -q -p 2 -3'),
    'a dictionary': withDictionary(true),
    'a dictionary without a number': withDictionary(false),
    'frames of zstd after one with a dictionary': Buffer.concat([frames[2], withDictionary(true)]),
    'a window that zstd refuses': pack(IMAGE, 'zstd -q -3 --long=30'),
    'bytes that do not compress': pack(noise(700_001, 8), 'zstd -q -1'),
    'a seek table': Buffer.concat([...right.frames, seekTable(right.entries)]),
    'a seek table, frames without sizes': Buffer.concat([...unsized.frames, seekTable(unsized.entries)]),
    'a seek table of a disk, frames without sizes': Buffer.concat([
      ...ofDisk.frames,
      seekTable(ofDisk.entries),
    ]),
    'a seek table with empty frames': Buffer.concat([
      empty,
      ...right.frames,
      empty,
      seekTable([[empty.length, 0], ...right.entries, [empty.length, 0]]),
    ]),
    'a seek table with a skippable frame': Buffer.concat([
      skippable(Buffer.from('first')),
      ...right.frames,
      seekTable([[13, 0], ...right.entries]),
    ]),
    'a seek table in the middle': Buffer.concat([...right.frames, seekTable(right.entries), frames[0]]),
    ...wrongTables(),
  };
}

/** Files to damage, and whether each wrong byte is found before it is served. */
export const zstdBases: Readonly<Record<string, boolean>> = {
  'no checksum': false,
  'several frames': true,
  'a seek table': true,
  'a seek table, frames without sizes': true,
  'a disk that says its size': true,
  'one byte': true,
};
