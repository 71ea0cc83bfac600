import { open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit');

const GIB = 1024 ** 3;

/** nbdkit's pattern: each eight bytes hold their own offset, big-endian. */
function patternAt(offset: number, length: number): Buffer {
  const first = Math.floor(offset / 8) * 8;
  const words = Buffer.alloc(Math.ceil((offset - first + length) / 8) * 8);
  for (let i = 0; i < words.length; i += 8) words.writeBigUInt64BE(BigInt(first + i), i);
  return words.subarray(offset - first, offset - first + length);
}

it.each(BACKENDS)('nbdkit pattern: reads at many offsets of a disk of 64 GiB, by %s', async (_, options) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'pattern', '64G', ']'], options });
  const handle = await open(disk.file, 'r');
  const around = [0, 4096, 65_536, 128 * 1024, 1024 ** 2, 32 * 1024 ** 2, 2 * GIB, 4 * GIB, 33 * GIB];
  const lengths = [1, 7, 512, 4097, 131_073, 1024 ** 2 + 3];
  for (const middle of around) {
    for (const length of lengths) {
      for (const offset of [middle - length, middle - 3, middle, middle + 1].filter((at) => at >= 0)) {
        const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
        expect(bytesRead, `length at ${offset}`).toBe(length);
        expect(buffer.equals(patternAt(offset, length)), `${length} bytes at ${offset}`).toBe(true);
      }
    }
  }
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(5000), 0, 5000, 64 * GIB - 1234);
  await handle.close();
  expect(bytesRead).toBe(1234);
  expect(buffer.subarray(0, 1234).equals(patternAt(64 * GIB - 1234, 1234))).toBe(true);
});

it.each(BACKENDS)(
  'nbdkit pattern: reads the right bytes of a disk of odd size, up to the last, by %s',
  async (_, options) => {
    const scope = createScope();
    const size = 1_000_003;
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'pattern', String(size), ']'], options });
    const handle = await open(disk.file, 'r');
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size + 10), 0, size + 10, 0);
    await handle.close();
    expect(bytesRead).toBe(size);
    expect(buffer.subarray(0, size).equals(patternAt(0, size))).toBe(true);
  },
);
