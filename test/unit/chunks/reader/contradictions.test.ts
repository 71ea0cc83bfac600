// Compressed files whose end contradicts the size that the disk or the index of the file claims: reads give right bytes or
// fail, and one line says why.

import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { UNIT } from '../../../../src/chunks/contract/units.js';
import {
  inOrder,
  MemoryCacheFile,
  memoryInput,
  type Opened,
  openAndRead,
} from '../../../support/chunks/opened-file.js';
import { forgedStream } from '../../../support/chunks/stored-xz.js';

/** Bytes that are read of a disk. */
const MOST_READ = 24 * UNIT;

/** With a cache file, and without. */
const CACHES = [
  ['a cache file', () => new MemoryCacheFile('contradiction')],
  ['no cache file', () => undefined],
] as const;

/** The first bytes of a disk with an ext file system that claims so many bytes. */
function extDisk(claimed: number, length: number): Buffer {
  const disk = randomBytes(length);
  disk.fill(0, 1024, 2048);
  disk.writeUInt32LE(claimed / 1024, 1024 + 4);
  disk.writeUInt16LE(0xef53, 1024 + 56);
  return disk;
}

/** Reads a gzip file whose members are parts of a disk, at the end of the pass. */
async function readMembers(cache: MemoryCacheFile | undefined, ...parts: readonly Buffer[]): Promise<Opened> {
  const events = new EventEmitter();
  const told = once(events, 'line');
  return openAndRead({
    coding: 'gzip',
    input: memoryInput(Buffer.concat(parts.map((part) => gzipSync(part, { level: 1 })))),
    cache,
    onLine: () => events.emit('line'),
    read: async function* read(disk) {
      await told;
      yield* inOrder({ ...disk, size: Math.min(disk.size, MOST_READ) });
    },
  });
}

/** The bytes before the first read that fails; each read before has those of the image. */
function soundBytes({ parts, size }: Opened, image: Buffer): number {
  for (const { offset, length, bytes } of parts)
    if (bytes !== undefined) expect(image.subarray(offset, offset + length).equals(bytes)).toBe(true);
  return parts.find(({ bytes }) => bytes === undefined)?.offset ?? size;
}

it.each(CACHES)(
  'gzip: all reads fail if the file has more than its disk claims, with %s',
  async (_, cache) => {
    for (const claimed of [4 * UNIT, 3 * UNIT - 2048, UNIT / 2]) {
      const kept = cache();
      const parts = [extDisk(claimed, 4 * UNIT), randomBytes(claimed)];
      const size = 4 * UNIT + claimed;
      // The second mount has the units of the first.
      for (let mount = 0; mount < 2; mount++) {
        const opened = await readMembers(kept, ...parts);
        expect([opened.size, soundBytes(opened, Buffer.concat(parts))]).toEqual([claimed, 0]);
        const why = `the file has ${size} bytes of an image that says that it has ${claimed}`;
        expect(opened.lines).toEqual([`${why}: reads of the image from byte 0 fail`]);
      }
    }
  },
);

it.each(CACHES)(
  'gzip: reads fail behind the end of a file that has less than its disk claims, with %s',
  async (_, cache) => {
    // The end of a gzip file says the size modulo 4 GiB.
    const claimed = 2 ** 32 + 3 * UNIT;
    const parts = [extDisk(claimed, 20 * UNIT - 5), randomBytes(3 * UNIT)];
    const opened = await readMembers(cache(), ...parts);
    expect([opened.size, soundBytes(opened, Buffer.concat(parts))]).toEqual([claimed, 22 * UNIT]);
    const why = `the file has ${23 * UNIT - 5} bytes of an image that says that it has ${claimed}`;
    expect(opened.lines).toEqual([`${why}: reads of the image from byte ${22 * UNIT} fail`]);
  },
);

it.each(CACHES)(
  'xz: an index that claims more than the block has fails the reads behind it, with %s',
  async (_, cache) => {
    const kept = cache();
    const image = randomBytes(700_000);
    for (let mount = 0; mount < 2; mount++) {
      const input = memoryInput(forgedStream(image, 800_000));
      const opened = await openAndRead({ coding: 'xz', input, cache: kept, read: inOrder });
      expect([opened.size, soundBytes(opened, image)]).toEqual([800_000, image.length]);
      expect(opened.lines).toEqual([
        expect.stringMatching(
          `^the index .* does not fit its blocks .*: reads of the image from byte ${image.length} fail$`,
        ),
      ]);
    }
  },
);

it.each(CACHES)(
  'xz: units that wait for a check are read though the file ends before its image, with %s',
  async (_, cache) => {
    // The parts make the block so long that its check is behind the first MiB, which the decoder gets alone.
    const image = randomBytes(3 * UNIT);
    const file = forgedStream(image, image.length + 1000, 87_377);
    const opened = await openAndRead({
      coding: 'xz',
      input: memoryInput(file),
      cache: cache(),
      read: inOrder,
    });
    expect([opened.size, soundBytes(opened, image)]).toEqual([image.length + 1000, image.length]);
    expect(opened.lines).toEqual([
      expect.stringMatching(
        `^the index .* does not fit its blocks .*: reads of the image from byte ${image.length} fail$`,
      ),
    ]);
  },
);
