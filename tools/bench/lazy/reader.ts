// A reader that measures, a program: it compares every byte that it reads with a raw file, and prints seconds.
//
//     node reader.js whole FILE RAW            FILE from the start to the end
//     node reader.js scattered FILE RAW VISITS 60 places of 4 KiB that never come from the kernel's cache, visit by visit

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { createRandom } from './data.js';

const STEP = 2 ** 20;
const PLACES = 60;
const PLACE_BYTES = 4096;

const [mode, file, raw, visits = '1'] = process.argv.slice(2);

/** Fills a buffer as far as the file goes. */
function readFully(descriptor: number, into: Buffer, position: number | null): number {
  let done = 0;
  while (done < into.length) {
    const at = position === null ? null : position + done;
    const count = readSync(descriptor, into, done, into.length - done, at);
    if (count === 0) break;
    done += count;
  }
  return done;
}

function compare(read: Buffer, right: Buffer, offset: number): void {
  if (!read.equals(right)) throw new Error(`wrong bytes in ${file}, at ${offset} or after`);
}

const seconds = (since: number): number => (performance.now() - since) / 1000;

/** Reads all as dd does, and once more for the comparison, which takes none of the measured time. */
function readWhole(): number {
  const source = openSync(file, 'r');
  const [read, right] = [Buffer.alloc(STEP, 1), Buffer.alloc(STEP)];
  const before = performance.now();
  let length = 0;
  for (let count = STEP; count === STEP; length += count) count = readFully(source, read, null);
  const taken = seconds(before);
  const reference = openSync(raw, 'r');
  if (length !== fstatSync(reference).size) throw new Error(`${file} has ${length} bytes`);
  // The kernel has kept the pages where the file system lets it.
  for (let offset = 0; offset < length; offset += STEP) {
    const [count, expected] = [readFully(source, read, offset), readFully(reference, right, offset)];
    compare(read.subarray(0, count), right.subarray(0, expected), offset);
  }
  closeSync(source);
  return taken;
}

function readScattered(): readonly number[] {
  const reference = openSync(raw, 'r');
  const pages = Math.floor(fstatSync(reference).size / PLACE_BYTES);
  const random = createRandom(PLACES);
  const places = Array.from({ length: PLACES }, () => (random() % pages) * PLACE_BYTES);
  const [read, right] = [Buffer.alloc(PLACE_BYTES), Buffer.alloc(PLACE_BYTES)];
  const source = openSync(file, constants.O_RDONLY | constants.O_DIRECT);
  return Array.from({ length: Number(visits) }, () => {
    let taken = 0;
    for (const place of places) {
      const before = performance.now();
      readFully(source, read, place);
      taken += seconds(before);
      readFully(reference, right, place);
      compare(read, right, place);
    }
    return taken;
  });
}

console.log(JSON.stringify(mode === 'whole' ? [readWhole()] : readScattered()));
