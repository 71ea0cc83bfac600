import { open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startStorageDaemon } from '../../support/run/servers.js';

requirePrograms('qemu-storage-daemon', 'qemu-img', 'qemu-io');

it.each(BACKENDS)(
  'qemu-storage-daemon: qemu-io finds the written data in the qcow2, by %s',
  async (_, options) => {
    const scope = createScope();
    const image = createQcow2(scope.path('disk.qcow2'), '1G');
    const server = await startStorageDaemon(scope, image);
    const disk = await mountDisk(scope, { server: [server.uri('disk')], options: ['-C', '4', ...options] });
    const handle = await open(disk.file, 'r+');
    await handle.write(Buffer.alloc(1 << 20, 0xa5), 0, 1 << 20, 700 << 20);
    const { buffer } = await handle.read(Buffer.alloc(4096), 0, 4096, (701 << 20) - 2048);
    expect(buffer.equals(Buffer.concat([Buffer.alloc(2048, 0xa5), Buffer.alloc(2048)]))).toBe(true);
    await handle.close();
    expect(await disk.stop()).toBe(0);
    expect(disk.stderr).toBe('');
    await server.program.kill('SIGTERM');
    await runProgram(
      'qemu-io',
      '-r',
      '-f',
      'qcow2',
      '-c',
      'read -P 0xa5 700M 1M',
      '-c',
      'read -P 0 701M 1M',
      image,
    );
    await runProgram('qemu-img', 'check', '-q', image);
  },
);
