// Odd xz files.

import { crc32 } from '../../../../src/partitions/crc32.js';
import { storedStream } from '../stored-xz.js';
import { IMAGE, noise, type OddFiles, pack, packPieces } from './odd-file.js';

/** The streams of `files`, with zeros behind each. */
const padded = (files: readonly Buffer[], zeros: number): Buffer =>
  Buffer.concat(files.flatMap((file) => [file, Buffer.alloc(zeros)]));

/** A file of one stream whose blocks have checks of another kind, of the same length. */
function withCheck(file: Buffer, kind: number): Buffer {
  const changed = Buffer.from(file);
  const end = file.length;
  changed[7] = kind;
  changed.writeUInt32LE(crc32(changed.subarray(6, 8)), 8);
  changed[end - 3] = kind;
  changed.writeUInt32LE(crc32(changed.subarray(end - 8, end - 2)), end - 12);
  return changed;
}

export function oddXzFiles(): OddFiles {
  const empty = pack(Buffer.alloc(0), 'xz');
  const streams = packPieces('xz -1', 1, 300_000);
  return {
    'one block': pack(IMAGE, 'xz -1'),
    'blocks of 100,000 bytes': pack(IMAGE, 'xz -1 --block-size=100000'),
    'blocks of different sizes': pack(IMAGE, 'xz -0 --block-list=1,300001,3,77,262144'),
    'blocks whose headers say their sizes': pack(IMAGE, 'xz -0 -T2 --block-size=262144'),
    'several streams': Buffer.concat(streams),
    'several streams with padding': padded(streams, 8),
    'long padding': padded(streams, 9000),
    'an empty stream': empty,
    'empty streams around data': Buffer.concat([
      empty,
      empty,
      streams[0],
      streams[1],
      empty,
      streams[2],
      empty,
    ]),
    'one byte': pack(Buffer.from('x'), 'xz'),
    'no check': pack(IMAGE, 'xz -1 -C none --block-size=300000'),
    'CRC-32': pack(IMAGE, 'xz -1 -C crc32 --block-size=300000'),
    'SHA-256': pack(IMAGE, 'xz -1 -C sha256 --block-size=300000'),
    'streams with different checks': Buffer.concat([
      pack(IMAGE.subarray(0, 9), 'xz -C none'),
      pack(IMAGE.subarray(9, 70_000), 'xz -C sha256'),
      pack(IMAGE.subarray(70_000), 'xz -C crc32'),
    ]),
    'the x86 filter': pack(IMAGE, 'xz --x86 --lzma2=preset=1'),
    'the ARM filter and a delta': pack(IMAGE, 'xz --arm --delta=dist=4 --lzma2=preset=0 --block-size=200000'),
    'four filters': pack(IMAGE, 'xz --x86 --sparc --delta=dist=256 --lzma2=preset=1'),
    'the filters of other processors': Buffer.concat(
      ['powerpc', 'ia64', 'armthumb', 'arm64'].map((name) => pack(IMAGE, `xz --${name} --lzma2=preset=0`)),
    ),
    'a large dictionary': pack(IMAGE, 'xz --lzma2=preset=0,dict=192MiB'),
    'other bits of LZMA': pack(IMAGE, 'xz --lzma2=preset=1,lc=0,lp=3,pb=0'),
    'the highest level': pack(IMAGE, 'xz -9e'),
    'a flush after each part': pack(IMAGE, 'xz -1 --flush-timeout=1'),
    'an unknown check': withCheck(pack(IMAGE, 'xz -1 -C crc32'), 2),
    'an unknown check in one of two streams': Buffer.concat([
      pack(IMAGE, 'xz -1'),
      withCheck(pack(IMAGE, 'xz -1 -C crc32'), 3),
    ]),
    'a small dictionary': pack(IMAGE, 'xz --lzma2=preset=1,dict=4096'),
    'bytes that do not compress': pack(noise(600_001, 5), 'xz -0 --block-size=256KiB'),
    'blocks without bytes': storedStream(
      Buffer.alloc(0),
      IMAGE.subarray(0, 60_000),
      Buffer.alloc(0),
      Buffer.alloc(0),
      IMAGE.subarray(60_000, 60_001),
      Buffer.alloc(0),
    ),
    'only blocks without bytes': storedStream(Buffer.alloc(0), Buffer.alloc(0)),
    'a stream without blocks, put together': storedStream(),
  };
}

/** Files to damage, and whether each wrong byte is found before it is served. */
export const xzBases: Readonly<Record<string, boolean>> = {
  'blocks of 100,000 bytes': true,
  'several streams with padding': true,
  'no check': false,
  'one byte': true,
};
