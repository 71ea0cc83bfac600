// O_TRUNC on a disk, whose size is fixed: it succeeds without effect, for any number of concurrent programs.

import { constants, ftruncateSync, openSync, statSync, truncateSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { tryProgram } from '../../support/run/command.js';
import { type MountpointForm, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'dd');

const MIB = 1024 * 1024;
const SIZE = 16 * MIB;
const MEMORY = ['[', 'nbdkit', 'memory', String(SIZE), ']'];

const MODES: readonly (readonly [string, MountpointForm, number])[] = [
  ['writeback', 'directory', 24],
  ['writeback', 'existing file', 24],
  ['writethrough', 'directory', 24],
  ['writethrough', 'existing file', 4],
  ['none', 'directory', 4],
  ['none', 'existing file', 24],
];

it.each(MODES)('O_TRUNC: --cache=%s, %s: %i programs at once succeed', async (cache, form, count) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY, options: [`--cache=${cache}`], form });
  const words = ['if=/dev/zero', `of=${disk.file}`, 'bs=1M', 'count=10', 'status=none'];
  for (let round = 0; round < 3; round++) {
    const outcomes = await Promise.all(Array.from({ length: count }, () => tryProgram('dd', ...words)));
    expect(outcomes.filter(({ status }) => status !== 0)).toEqual([]);
    expect(statSync(disk.file).size).toBe(SIZE);
  }
});

it.each(['writeback', 'writethrough', 'none'])(
  'O_TRUNC: --cache=%s: keeps the data that another program has just written, and the size',
  async (cache) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: MEMORY, options: [`--cache=${cache}`] });
    const writer = await openFile(scope, disk.file, 'r+');
    await writer.write(Buffer.alloc(4096, 'A'), 0, 4096, 5 * MIB);
    const { O_TRUNC, O_RDONLY, O_WRONLY } = constants;
    for (const flags of [O_WRONLY | O_TRUNC, O_RDONLY | O_TRUNC]) {
      const other = await openFile(scope, disk.file, flags);
      expect(statSync(disk.file).size).toBe(SIZE);
      await other.close();
    }
    await writer.sync();
    expect((await readAt(disk.file, 5 * MIB, 4096)).equals(Buffer.alloc(4096, 'A'))).toBe(true);
    expect((await writer.stat()).size).toBe(SIZE);
    await writer.close();
  },
);

it('truncate(2) and ftruncate(2): EPERM, except for the present size', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY });
  const trunc = await openFile(scope, disk.file, 'w');
  const descriptor = openSync(disk.file, 'r+');
  scope.add(async () => (await import('node:fs')).closeSync(descriptor));
  for (const size of [0, 1, SIZE - 1, SIZE + 1]) {
    expect(() => ftruncateSync(descriptor, size), String(size)).toThrow('EPERM');
    // By another thread than that of the open handle.
    if (size > 0) expect(() => truncateSync(disk.file, size), String(size)).toThrow('EPERM');
  }
  expect(await tryProgram('truncate', '-s', '0', disk.file)).toMatchObject({ status: 1 });
  const code = 'import os, sys; os.truncate(sys.argv[1], 0)';
  const byPath = await tryProgram('python3', '-c', code, disk.file);
  expect(byPath.stderr).toContain('Operation not permitted');
  truncateSync(disk.file, SIZE);
  ftruncateSync(descriptor, SIZE);
  await trunc.close();
});
