// Looks for further streams in a bzip2 file: nbdkit's filter stops after the first one.
//
// Used by prepare.ts. bzip2 has no length or index of its streams, so the whole file is searched for the beginning of
// another one; compressed data contain these ten bytes once in 2^77 places.

import { printable } from '../nbd/text.js';
import type { DiskReader } from '../partitions/table.js';
import { onlyFirst } from './unpacking-error.js';

const CHUNK = 1024 * 1024;
/** A stream begins with `BZh`, a digit, and the number pi, or the root of pi where it is empty. */
const STREAM = /BZh[1-9](?=(.{6}))/gs;
const NUMBERS = ['314159265359', '177245385090'];
const STREAM_LENGTH = 10;

/** @throws ImageError when a bzip2 file has several streams; the errors of `read` */
export async function refuseSeveralStreams(name: string, { size, read }: DiskReader): Promise<void> {
  let seen = 0;
  for (let at = 0n; at < size; at += BigInt(CHUNK)) {
    const left = size - at;
    const length = Number(left < CHUNK + STREAM_LENGTH - 1 ? left : CHUNK + STREAM_LENGTH - 1);
    const found = (await read(at, length)).toString('latin1').matchAll(STREAM);
    for (const [, number = ''] of found) {
      if (NUMBERS.includes(Buffer.from(number, 'latin1').toString('hex'))) seen++;
    }
    if (seen < 2) continue;
    throw onlyFirst(printable(name), 'bzip2', 'streams');
  }
}
