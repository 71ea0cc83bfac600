import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { createShPlugin, type ShPlugin } from '../../support/sh-plugin.js';

requirePrograms('nbdkit', 'fallocate');

const MIB = 1024 * 1024;

/** A disk full of `x` whose server logs its requests. */
async function mountLogged(
  scope: Scope,
  cannot: readonly string[] = [],
): Promise<{ disk: MountedDisk; plugin: ShPlugin }> {
  const plugin = createShPlugin(scope, { size: MIB, cannot, blockSizes: '1 4096 1048576' });
  await writeAt(plugin.disk, Buffer.alloc(MIB, 'x'), 0);
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'sh', plugin.script, ']'] });
  return { disk, plugin };
}

/** Zeros in the given range of a disk full of `x`. */
function expectedContent(offset: number, length: number): Buffer {
  return Buffer.alloc(MIB, 'x').fill(0, offset, offset + length);
}

it.each([
  ['PUNCH_HOLE', '-p', /may_trim/],
  ['ZERO_RANGE', '-z', /^(?!.*may_trim)/],
])('fallocate: requests suitable zeros from the server for %s', async (_, flag, expectedFlags) => {
  const scope = createScope();
  const { disk, plugin } = await mountLogged(scope);
  await runProgram('fallocate', flag, '-o', '12345', '-l', '300000', disk.file);
  expect((await readFile(disk.file)).equals(expectedContent(12_345, 300_000))).toBe(true);
  expect(await disk.stop()).toBe(0);
  const zeros = plugin.log().filter((line) => line.startsWith('zero'));
  expect(zeros.length).toBeGreaterThan(0);
  for (const line of zeros) expect(line).toMatch(expectedFlags);
  expect(plugin.log().some((line) => line.startsWith('trim'))).toBe(false);
  expect((await readFile(plugin.disk)).equals(expectedContent(12_345, 300_000))).toBe(true);
});

it.each([
  ['PUNCH_HOLE', '-p'],
  ['ZERO_RANGE', '-z'],
])('fallocate: writes zeros for %s where the server cannot zero', async (_, flag) => {
  const scope = createScope();
  const { disk, plugin } = await mountLogged(scope, ['can_zero', 'can_trim']);
  await runProgram('fallocate', flag, '-o', '5000', '-l', '500000', disk.file);
  expect((await readAt(disk.file, 0, MIB)).equals(expectedContent(5000, 500_000))).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect((await readFile(plugin.disk)).equals(expectedContent(5000, 500_000))).toBe(true);
});

it.each([
  ['allocation', []],
  ['allocation with the size kept', ['-n']],
  ['COLLAPSE_RANGE', ['-c']],
  ['INSERT_RANGE', ['-i']],
])('fallocate: %s fails with EOPNOTSUPP', async (_, words) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  const { status, stderr } = await tryProgram('fallocate', ...words, '-o', '0', '-l', '4096', disk.file);
  expect(status).toBe(1);
  expect(stderr).toMatch(/Operation not supported|is unsupported/);
});

it('fallocate: zeroes after dirty pages, not before them', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'] });
  await writeAt(disk.file, Buffer.alloc(100_000, 'y'), 0);
  await runProgram('fallocate', '-p', '-o', '0', '-l', '50000', disk.file);
  const expected = Buffer.alloc(100_000, 'y').fill(0, 0, 50_000);
  expect((await readAt(disk.file, 0, 100_000)).equals(expected)).toBe(true);
});
