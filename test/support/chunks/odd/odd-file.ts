// Compressed files that are unusual and right, and the ways to damage one.

import { execFileSync } from 'node:child_process';
import { mulberry } from '../../random.js';
import { requireProgram } from '../../run/requires.js';
import { sampleBytes } from '../decoding.js';

/** Files by their oddity. */
export type OddFiles = Readonly<Record<string, Buffer>>;

/** Bytes of an image of two units of 256 KiB, the last one short, with zeros in the middle. */
export const IMAGE = Buffer.concat([sampleBytes(200_009, 7), Buffer.alloc(150_000), sampleBytes(50_001, 11)]);

/** The same as the disk of an ext4 file system, which says its size. */
export const DISK = Buffer.concat([IMAGE, Buffer.alloc(-IMAGE.length & 1023)]);
DISK.writeUInt16LE(0xef53, 1024 + 56);
DISK.writeUInt32LE(DISK.length / 1024, 1024 + 4);
DISK.writeUInt32LE(0, 1024 + 24);
DISK.writeUInt32LE(0, 1024 + 96);

/** Bytes that do not compress. */
export function noise(length: number, seed: number): Buffer {
  const random = mulberry(seed);
  return Buffer.from(Uint8Array.from({ length }, () => random(256)));
}

/** Runs a compressor on bytes. */
export function pack(bytes: Uint8Array, command: string): Buffer {
  const [program, ...args] = command.split(' ');
  return execFileSync(requireProgram(program), args, {
    input: bytes,
    maxBuffer: 1 << 28,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
}

/** The image in parts that end at `ends`, each packed separately. */
export function packPieces(command: string, ...ends: readonly number[]): Buffer[] {
  return [...ends, IMAGE.length].map((end, i) => pack(IMAGE.subarray(ends[i - 1] ?? 0, end), command));
}

/** A damaged file. */
export interface Damaged {
  readonly what: string;
  readonly bytes: Buffer;
}

/** Bytes of a file that is so small that each of its bytes is damaged. */
const SMALL = 30;

/** Places of a file: each of its first and last bytes, and others at equal distances; all places of a small file. */
function placesOf({ length }: Buffer, edge: number, between: number): number[] {
  if (length <= SMALL) return [...Array(length).keys()];
  const places = new Set<number>();
  for (let at = 0; at < edge; at++) places.add(at).add(length - 1 - at);
  for (let i = 1; i < between; i++) places.add(Math.floor((i * length) / between));
  return [...places].filter((at) => at >= 0 && at < length).sort((a, b) => a - b);
}

/** A file that ends at each of many places. */
export function* cuts(file: Buffer): Generator<Damaged> {
  for (const at of placesOf(file, 3, 5))
    yield { what: `cut to ${at} of ${file.length} bytes`, bytes: file.subarray(0, at) };
}

/** A file with one bit flipped at each of many places: headers, bodies, checks and indexes. */
export function* flips(file: Buffer): Generator<Damaged> {
  for (const at of placesOf(file, 5, 5)) {
    const bytes = Buffer.from(file);
    bytes[at] ^= 1 << ((at * 5) % 8);
    yield { what: `bit ${(at * 5) % 8} of byte ${at} of ${file.length} flipped`, bytes };
  }
}

/** A file with bytes behind it that belong to nothing. */
export function* tails(file: Buffer): Generator<Damaged> {
  const tail = (what: string, bytes: Buffer): Damaged => ({ what, bytes: Buffer.concat([file, bytes]) });
  yield tail('one byte behind it', Buffer.from('x'));
  yield tail('a zero behind it', Buffer.alloc(1));
  yield tail('1000 zeros behind it', Buffer.alloc(1000));
  yield tail('text behind it', Buffer.from('this is not compressed at all\n'));
  yield tail('noise behind it', noise(70_000, 3));
  yield tail('its own first three bytes behind it', file.subarray(0, 3));
  yield tail('its own first half behind it', file.subarray(0, file.length >> 1));
}
