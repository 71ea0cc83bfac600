import { open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { BOOTED_STATUS, bootSector, TEXT_SECTOR, textSector } from '../../support/boot-sector.js';
import { createScope } from '../../support/cleanup.js';
import { tryProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-system-x86_64', 'qemu-nbd', 'qemu-img');

const MACHINE = [
  '-accel',
  'tcg',
  '-nodefaults',
  '-no-user-config',
  '-display',
  'none',
  '-no-reboot',
  '-m',
  '32',
];
const EXIT = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=1'];

it.each(BACKENDS)('boot: a machine boots from a qcow2 mounted as raw, by %s', async (_, options) => {
  const scope = createScope();
  const image = createQcow2(scope.path('disk.qcow2'), '64M');
  const disk = await mountDisk(scope, { server: ['[', 'qemu-nbd', '-f', 'qcow2', image, ']'], options });
  const handle = await open(disk.file, 'r+');
  await handle.write(bootSector(), 0, 512, 0);
  await handle.write(textSector('booted from the mounted file\n'), 0, 512, TEXT_SECTOR * 512);
  await handle.close();
  const drive = ['-drive', `file=${disk.file},format=raw,if=virtio,snapshot=on`];
  const { status, stdout, stderr } = await tryProgram(
    'qemu-system-x86_64',
    ...[...MACHINE, ...EXIT, '-serial', 'stdio', ...drive],
  );
  expect(stderr).toBe('');
  expect(stdout).toContain('booted from the mounted file\n');
  expect(status).toBe(BOOTED_STATUS);
});
