// Compressed files whose tables of contents are forged: their own checksums are right.

import { deflateRawSync } from 'node:zlib';
import { IndexParser, STREAM_FOOTER, STREAM_HEADER } from '../../../src/chunks/decode/xz-format.js';
import { crc32 } from '../../../src/partitions/crc32.js';
import { sampleBytes } from './decoding.js';
import { pack } from './odd/odd-file.js';
import { type FrameLengths, seekTable } from './seek-table.js';
import { streamOf, variable } from './stored-xz.js';

/** Numbers below a limit. */
type Random = (below: number) => number;

/** A forged file. */
export interface Forgery {
  readonly what: string;
  readonly file: Buffer;
  /** The bytes of the file before it was forged. */
  readonly image: Buffer;
}

const SIZE = 5_300_224;
const DELTAS = [1, 1000, 4096, 262_144, 1_048_576, 1_310_720];

/** A disk that says its size, as those of ext4 do. */
function diskOf(seed: number): Buffer {
  const disk = Buffer.concat([sampleBytes(SIZE - 1_000_000, seed), Buffer.alloc(1_000_000)]);
  disk.fill(0, 1024, 2048);
  disk.writeUInt16LE(0xef53, 1024 + 56);
  disk.writeUInt32LE(SIZE / 1024, 1024 + 4);
  return disk;
}

const oneOf = <T>(random: Random, all: readonly T[]): T => all[random(all.length)];

/** The lengths of parts of a file, compressed and decoded. */
type Lengths = [number, number];

/** Changes a table of lengths. @returns the change in words */
function forge(random: Random, table: Lengths[]): string {
  const [i, j] = [random(table.length), random(table.length)];
  const delta = oneOf(random, DELTAS) * (random(2) === 0 ? 1 : -1);
  const column = random(4) === 0 ? 0 : 1;
  switch (random(6)) {
    case 0:
      table.splice(i, 1);
      return `without part ${i}`;
    case 1:
      table.splice(i, 0, [...table[i]]);
      return `part ${i} twice`;
    case 2:
      [table[i], table[j]] = [table[j], table[i]];
      return `parts ${i} and ${j} exchanged`;
    case 3:
      table[i][column] = Math.max(5, table[i][column] + delta);
      return `${delta} in column ${column} of part ${i}`;
    default: {
      const moved = Math.max(-table[i][column] + 5, Math.min(delta, table[j][column] - 5));
      table[i][column] += moved;
      table[j][column] -= moved;
      return `${moved} in column ${column} from part ${j} to part ${i}`;
    }
  }
}

/** A file of xz blocks, whose index is forged. */
export function forgedXz(random: Random): Forgery {
  const image = diskOf(random(1000));
  const length = oneOf(random, [1_048_576, 1_200_000, 1_310_720, 300_000]);
  const options = oneOf(random, ['', '-T2 ']);
  const file = pack(image, `xz -0 -C crc32 ${options}--block-size=${length}`);
  const end = file.length - STREAM_FOOTER;
  const start = end - (file.readUInt32LE(end + 4) + 1) * 4;
  const table: Lengths[] = [];
  const parser = new IndexParser(
    (unpadded, size) => table.push([unpadded, size]),
    (_, message) => new Error(message),
  );
  parser.feed(file.subarray(start, end));
  const what = `xz, ${options}blocks of ${length}: ${forge(random, table)}`;
  const blocks = file.subarray(STREAM_HEADER, start);
  const records = table.flatMap((lengths) => lengths.map(variable));
  return { what, file: streamOf(blocks, table.length, Buffer.concat(records)), image };
}

/** A file of zstd frames, whose seek table is forged. */
export function forgedZstd(random: Random): Forgery {
  const image = diskOf(random(1000));
  const length = oneOf(random, [262_144, 300_000, 1_048_576]);
  const saysSize = random(2) === 0;
  const frames: Buffer[] = [];
  const table: Lengths[] = [];
  for (let at = 0; at < image.length; at += length) {
    const part = image.subarray(at, at + length);
    const frame = pack(part, saysSize ? `zstd -1 --stream-size=${part.length}` : 'zstd -1');
    frames.push(frame);
    table.push([frame.length, part.length]);
  }
  const what = `zstd, ${saysSize ? 'sized ' : ''}frames of ${length}: ${forge(random, table)}`;
  return { what, file: Buffer.concat([...frames, seekTable(table as readonly FrameLengths[])]), image };
}

const BLOCK = 0xff00;

/** A file of gzip members that say their lengths (BGZF), of which some say wrong ones. */
export function forgedBgzf(random: Random): Forgery {
  const image = diskOf(random(1000)).subarray(0, 1_200_000);
  const table: Lengths[] = [];
  const members: Buffer[] = [];
  for (let at = 0; at < image.length; at += BLOCK) {
    const data = deflateRawSync(image.subarray(at, at + BLOCK), { level: 1 });
    members.push(data);
    table.push([data.length + 26, Math.min(BLOCK, image.length - at)]);
  }
  const claimed = table.map((lengths): Lengths => [...lengths]);
  const [which, column] = [random(table.length), random(2)];
  const delta = oneOf(random, [1, -1, 100, -4096]);
  claimed[which][column] += delta;
  const file = members.map((data, i) => {
    const at = i * BLOCK;
    const head = Buffer.from('1f8b08040000000000ff0600424302000000', 'hex');
    head.writeUInt16LE((claimed[i][0] - 1) & 0xffff, 16);
    const tail = Buffer.alloc(8);
    tail.writeUInt32LE(crc32(image.subarray(at, at + BLOCK)));
    tail.writeUInt32LE(claimed[i][1], 4);
    return Buffer.concat([head, data, tail]);
  });
  return { what: `BGZF: ${delta} in column ${column} of ${which}`, file: Buffer.concat(file), image };
}
