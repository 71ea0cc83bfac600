// Odd lz4 files.

import { skippable } from '../seek-table.js';
import { archived } from './archiver.js';
import { IMAGE, noise, type OddFiles, pack, packPieces } from './odd-file.js';

export function oddLz4Files(): OddFiles {
  const frames = packPieces('lz4 -q -B4 -c', 1, 300_000);
  const empty = pack(Buffer.alloc(0), 'lz4 -q -c');
  const legacy = packPieces('lz4 -q -l -c', 300_000);
  return {
    'independent blocks': pack(IMAGE, 'lz4 -q -B4 -BI -c'),
    'linked blocks': pack(IMAGE, 'lz4 -q -B4 -BD -c'),
    'checksums of independent blocks': pack(IMAGE, 'lz4 -q -B4 -BI -BX -c'),
    'checksums of linked blocks': pack(IMAGE, 'lz4 -q -B5 -BD -BX -c'),
    'no checksum': pack(IMAGE, 'lz4 -q -B4 --no-frame-crc -c'),
    'checksums of blocks only': pack(IMAGE, 'lz4 -q -B4 -BX --no-frame-crc -c'),
    'large blocks': pack(IMAGE, 'lz4 -q -B7 -c'),
    'a frame that says its size': pack(IMAGE, `lz4 -q -B4 --content-size -c`),
    'several frames': Buffer.concat(frames),
    'skippable frames': Buffer.concat([
      skippable(Buffer.alloc(0)),
      frames[0],
      skippable(noise(70_000, 1), 15),
      frames[1],
      frames[2],
      skippable(Buffer.from('last'), 7),
    ]),
    'an empty frame': empty,
    'empty frames around data': Buffer.concat([empty, empty, frames[0], empty, frames[1], frames[2], empty]),
    'one byte': pack(Buffer.from('x'), 'lz4 -q -c'),
    'the legacy format': pack(IMAGE, 'lz4 -q -l -c'),
    'several legacy frames': Buffer.concat(legacy),
    'legacy and other frames': Buffer.concat([legacy[0], frames[0], legacy[1], frames[1]]),
    'a legacy frame of several blocks': pack(
      Buffer.concat(Array.from({ length: 14 }, () => IMAGE)),
      'lz4 -q -l -c',
    ),
    'the highest level': pack(IMAGE, 'lz4 -q -12 --favor-decSpeed -c'),
    'a fast level': pack(IMAGE, 'lz4 -q --fast=50 -B6 -c'),
    'a dictionary': archived('head -c 50000 b.img >dictionary; lz4 -q -D dictionary b.img archive'),
    'an empty legacy frame': pack(Buffer.alloc(0), 'lz4 -q -l -c'),
    'an empty legacy frame before data': Buffer.concat([pack(Buffer.alloc(0), 'lz4 -q -l -c'), frames[0]]),
    'a skippable frame behind a legacy one': Buffer.concat([
      legacy[0],
      skippable(Buffer.from('x')),
      legacy[1],
    ]),
    'only a skippable frame': skippable(Buffer.from('nothing')),
    'bytes that do not compress': pack(noise(700_001, 8), 'lz4 -q -B5 -c'),
  };
}

/** Files to damage, and whether each wrong byte is found before it is served. */
export const lz4Bases: Readonly<Record<string, boolean>> = {
  'linked blocks': true,
  'checksums of independent blocks': true,
  'no checksum': false,
  'several frames': true,
  'the legacy format': false,
  'one byte': true,
};
