import { constants } from 'node:fs';
import { stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS, withBackends } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;
const MEMORY = ['[', 'nbdkit', 'memory', '1M', ']'];

it.each(BACKENDS)('end of the disk: a read ends there, by %s', async (_, options) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY, options });
  expect((await readAt(disk.file, MIB - 100, 4096)).length).toBe(100);
  expect((await readAt(disk.file, MIB, 4096)).length).toBe(0);
  expect((await readAt(disk.file, 5 * MIB, 4096)).length).toBe(0);
});

it.each([
  ['O_DIRECT', constants.O_DIRECT, []],
  ['--cache=none', 0, ['--cache=none']],
  ['--cache=writethrough', 0, ['--cache=writethrough']],
  ['fuse-native', 0, ['--fuse-backend=fuse-native']],
  ['O_DIRECT and fuse-native', constants.O_DIRECT, ['--fuse-backend=fuse-native']],
])('end of the disk: a write beyond it fails with ENOSPC at once with %s', async (_, flag, options) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY, options });
  const words = [`of=${disk.file}`, 'if=/dev/zero', 'bs=4096', 'count=1', 'seek=256', 'conv=notrunc'];
  if (flag !== 0) words.push('oflag=direct');
  const { status, stderr } = await tryProgram('dd', ...words);
  expect(status).toBe(1);
  expect(stderr).toMatch(/writing .*No space left on device/);
  expect((await stat(disk.file)).size).toBe(MIB);
});

/** nbdfuse reports the size to the kernel a moment after the error. */
async function untilSizeIs(file: string, size: number): Promise<void> {
  await until(`the size to be ${size} again`, async () => (await stat(file)).size === size);
}

it('end of the disk: a buffered write beyond it fails with ENOSPC at fsync, and the size is restored', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY });
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(8192, 'x'), 0, 8192, MIB - 4096);
  await expect(handle.sync()).rejects.toThrow('ENOSPC');
  await handle.close();
  await untilSizeIs(disk.file, MIB);
  expect((await readAt(disk.file, MIB - 4096, 8192)).equals(Buffer.alloc(4096, 'x'))).toBe(true);
  expect(await disk.stop()).toBe(0);
});

it('end of the disk: a buffered write beyond it fails with ENOSPC at close', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY });
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(4096, 'x'), 0, 4096, 2 * MIB);
  await expect(handle.close()).rejects.toThrow('ENOSPC');
  await untilSizeIs(disk.file, MIB);
  expect((await readAt(disk.file, MIB, 10)).length).toBe(0);
});

it.each(BACKENDS)(
  'truncation: O_TRUNC and the present size succeed and change nothing, by %s',
  async (_, options) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'data', '"kept" * 262144', ']'], options });
    const handle = await openFile(scope, disk.file, 'w');
    await handle.truncate(MIB);
    await handle.close();
    expect((await readAt(disk.file, 0, 8)).toString()).toBe('keptkept');
    expect((await stat(disk.file)).size).toBe(MIB);
  },
);

const OTHER_SIZES = withBackends([0, MIB - 1, MIB + 1, 2 ** 40].map((size) => [size] as const));

it.each(OTHER_SIZES)('truncation: %i bytes fail with EPERM, by %s', async (size, _, options) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: MEMORY, options });
  const handle = await openFile(scope, disk.file, 'r+');
  await expect(handle.truncate(size)).rejects.toThrow('EPERM');
  expect((await handle.stat()).size).toBe(MIB);
});
