// Odd bzip2 files.

import { IMAGE, noise, type OddFiles, pack, packPieces } from './odd-file.js';

/** Runs of 1 to `longest` equal bytes. */
const runs = (longest: number): Buffer =>
  Buffer.concat(Array.from({ length: longest }, (_, i) => Buffer.alloc(i + 1, i)));

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
    'runs of all lengths': pack(runs(600), 'bzip2 -1'),
    'a run over the end of a block': pack(
      Buffer.concat([noise(99_900, 4), Buffer.alloc(5000, 7), noise(9, 5)]),
      'bzip2 -1',
    ),
    'a full block': pack(noise(99_981, 7), 'bzip2 -1'),
    zeros: pack(Buffer.alloc(1_500_000), 'bzip2 -1'),
  };
}

/** Files to damage, and whether each wrong byte is found before it is served. */
export const bzip2Bases: Readonly<Record<string, boolean>> = {
  'several blocks': true,
  'several streams': true,
  'one byte': true,
};
