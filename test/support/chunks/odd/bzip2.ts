// Odd bzip2 files.

import { IMAGE, noise, type OddFiles, pack, packPieces } from './odd-file.js';

export function oddBzip2Files(): OddFiles {
  const streams = packPieces('bzip2 -2', 1, 300_000);
  const empty = pack(Buffer.alloc(0), 'bzip2');
  return {
    'several blocks': pack(IMAGE, 'bzip2 -1'),
    'large blocks': pack(IMAGE, 'bzip2 -9'),
    'several streams': Buffer.concat(streams),
    'streams with blocks of different sizes': Buffer.concat([
      pack(IMAGE.subarray(0, 400_000), 'bzip2 -9'),
      pack(IMAGE.subarray(400_000), 'bzip2 -1'),
    ]),
    'streams of pbzip2': pack(IMAGE, 'pbzip2 -1 -b1 -p2 -c'),
    'streams of lbzip2': pack(IMAGE, 'lbzip2 -1 -n2 -c'),
    'an empty stream': empty,
    'empty streams around data': Buffer.concat([
      empty,
      empty,
      streams[0],
      empty,
      streams[1],
      streams[2],
      empty,
    ]),
    'one byte': pack(Buffer.from('x'), 'bzip2'),
    'bytes that do not compress': pack(noise(700_001, 6), 'bzip2 -3'),
    zeros: pack(Buffer.alloc(1_500_000), 'bzip2 -1'),
  };
}

/** Files to damage, and whether each wrong byte is found before it is served. */
export const bzip2Bases: Readonly<Record<string, boolean>> = {
  'several blocks': true,
  'several streams': true,
  'one byte': true,
};
