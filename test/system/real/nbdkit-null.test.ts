import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit');

it('nbdkit null: accepts 1 GiB of writes', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'null', '4G', ']'] });
  const words = ['if=/dev/urandom', `of=${disk.file}`, 'bs=1M', 'count=64', 'conv=notrunc,fsync'];
  await runProgram('dd', ...words, 'seek=1024', 'status=none');
  await runProgram(
    'dd',
    'if=/dev/zero',
    `of=${disk.file}`,
    'bs=4M',
    'count=240',
    'conv=notrunc',
    'status=none',
  );
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
});

it('nbdkit null: reads zeros everywhere', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'null', '256M', ']'] });
  await runShell('cmp -n 268435456 "$0" /dev/zero', disk.file);
});
