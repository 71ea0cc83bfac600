import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS, withBackends } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit');

it.each(BACKENDS)(
  'disk sizes: a disk of size 0 can neither be read nor written, by %s',
  async (_, options) => {
    const scope = createScope();
    const disk = await mountDisk(scope, {
      server: ['[', 'nbdkit', 'null', '0', ']'],
      options: ['--cache=none', ...options],
    });
    expect((await stat(disk.file)).size).toBe(0);
    expect((await readAt(disk.file, 0, 512)).length).toBe(0);
    await expect(writeAt(disk.file, Buffer.alloc(512), 0)).rejects.toThrow('ENOSPC');
    expect(await disk.stop()).toBe(0);
  },
);

const ODD_SIZES = withBackends([1, 511, 513, 4095, 4097, 1_000_001].map((size) => [size] as const));

it.each(ODD_SIZES)('disk sizes: a disk of %i bytes keeps every byte, by %s', async (size, _, options) => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'memory', String(size));
  const content = Buffer.alloc(size, 'all of it. ');
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  expect((await stat(disk.file)).size).toBe(size);
  await writeAt(disk.file, content, 0);
  expect(await disk.stop()).toBe(0);
  const again = await mountDisk(scope, { server: [server.uri()], options, name: 'again' });
  expect((await readAt(again.file, 0, size + 100)).equals(content)).toBe(true);
});

it('disk sizes: reads and writes near the end of a disk of 2^62 bytes', async () => {
  const scope = createScope();
  const size = 2n ** 62n;
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'memory', String(size), ']'] });
  expect((await stat(disk.file, { bigint: true })).size).toBe(size);
  expect((await runProgram('stat', '-c', '%s', disk.file)).trim()).toBe(String(size));
  // Node seeks only to what a number holds exactly.
  const [source, target] = [scope.path('source'), scope.path('target')];
  await writeFile(source, 'the far end');
  const offset = String(size - 100n);
  const common = ['bs=1', 'count=11', 'status=none'];
  await runProgram('dd', `if=${source}`, `of=${disk.file}`, `seek=${offset}`, 'conv=notrunc', ...common);
  await runProgram('dd', `if=${disk.file}`, `of=${target}`, `skip=${offset}`, ...common);
  expect(await readFile(target, 'utf8')).toBe('the far end');
  expect(await disk.stop()).toBe(0);
});
