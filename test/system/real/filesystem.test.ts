import { readFile, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('mkfs.ext4', 'e2fsck', 'debugfs', 'qemu-img', 'qemu-nbd');

it.each(BACKENDS)(
  'file system: mkfs, writes and fsck work through the mounted file, by %s',
  async (_, options) => {
    const scope = createScope();
    const image = createQcow2(scope.path('disk.qcow2'), '64M');
    const server = ['[', 'qemu-nbd', '--discard=unmap', '-f', 'qcow2', image, ']'];
    const disk = await mountDisk(scope, { server, options });
    const content = scope.path('content');
    await writeFile(content, Buffer.alloc(5_000_000, 'in the filesystem, '));
    await runProgram('mkfs.ext4', '-q', '-F', disk.file);
    await runProgram('debugfs', '-w', '-R', `write ${content} inside`, disk.file);
    await runProgram('e2fsck', '-f', '-n', disk.file);
    expect(await disk.stop()).toBe(0);
    expect(disk.stderr).toBe('');

    const again = await mountDisk(scope, { server, options, name: 'again' });
    const dumped = scope.path('dumped');
    await runProgram('debugfs', '-R', `dump inside ${dumped}`, again.file);
    expect((await readFile(dumped)).equals(await readFile(content))).toBe(true);
    await runProgram('e2fsck', '-f', '-n', again.file);
  },
);
