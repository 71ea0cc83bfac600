import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { O_CLOEXEC } from '../../../src/constants/open-flags.js';
import { createScope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { tryProgram } from '../../support/run/command.js';
import { type MountRequest, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'fallocate');

const OPTIONS = ['--fuse-backend=fuse-native'];

it.each<[string, Omit<MountRequest, 'options'>, RegExp]>([
  [
    'mounting over a file',
    { server: ['[', 'nbdkit', 'memory', '1M', ']'], form: 'existing file' },
    /mounts on directories only; use --fuse-backend=kernel/,
  ],
  [
    'a disk of more than 2^53 bytes',
    { server: ['[', 'nbdkit', 'memory', String(2n ** 62n), ']'] },
    /serves at most 2\^53 bytes; use --fuse-backend=kernel/,
  ],
])('fuse-native: %s fails, and the error names the alternative', async (_, request, message) => {
  const scope = createScope();
  const failure = await mountDisk(scope, { ...request, options: OPTIONS }).catch(String);
  expect(failure).toMatch(message);
  expect(String(failure).match(/^nbdfuse: /gm)).toHaveLength(1);
});

it.each([
  ['PUNCH_HOLE', ['-p']],
  ['ZERO_RANGE', ['-z']],
  ['allocation', []],
])('fuse-native: %s fails with EOPNOTSUPP, and changes nothing', async (_, words) => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'], options: OPTIONS });
  const text = Buffer.alloc(8192, 'still there; ');
  await writeAt(disk.file, text, 0);
  const { status, stderr } = await tryProgram('fallocate', ...words, '-l', '4096', disk.file);
  expect(status).toBe(1);
  expect(stderr).toMatch(/Operation not supported|is unsupported/);
  expect((await readAt(disk.file, 0, text.length)).equals(text)).toBe(true);
});

it('fuse-native: programs that nbdfuse starts do not inherit the device', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', '1M', ']'], options: OPTIONS });
  const descriptors = `/proc/${disk.program.pid}/fd`;
  const names = await readdir(descriptors);
  const isDevice = async (name: string): Promise<boolean> =>
    (await readlink(join(descriptors, name)).catch(() => '')) === '/dev/fuse';
  const devices: string[] = [];
  for (const name of names) if (await isDevice(name)) devices.push(name);
  expect(devices).not.toEqual([]);
  for (const name of devices) {
    const info = await readFile(`/proc/${disk.program.pid}/fdinfo/${name}`, 'utf8');
    const flags = Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '', 8);
    expect(flags & O_CLOEXEC).toBe(O_CLOEXEC);
  }
});
