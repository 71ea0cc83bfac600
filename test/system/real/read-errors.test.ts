// Read and write errors of the storage below a qemu-nbd: the request fails, and the rest goes on.
//
// qemu-nbd reads a sparse image in parts, and disconnects when it cannot read one. Without --persistent it then ends.

import { expect, it } from 'vitest';
import { withBackends } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit, startQemuNbd } from '../../support/run/servers.js';
import { createShPlugin } from '../../support/sh-plugin.js';

requirePrograms('nbdkit', 'qemu-nbd');

const SIZE = 8 * 1024 * 1024;
/** Bytes at which reads and writes fail. */
const BAD = [1_048_576, 3_145_728] as const;

/** The URI of a disk with bad sectors. */
async function badDisk(scope: Scope, size = SIZE): Promise<string> {
  const failures = BAD.flatMap((offset) => [
    `'pread ${offset}') echo EIO bad sector >&2; exit 1;;`,
    `'pwrite ${offset}') cat >/dev/null; echo EIO bad sector >&2; exit 1;;`,
    `'zero ${offset}') echo EIO bad sector >&2; exit 1;;`,
  ]);
  const { script } = createShPlugin(scope, { size, failures });
  const { uri } = await startNbdkit(scope, 'sh', script);
  return uri();
}

async function expectErrorsAlone(file: string): Promise<void> {
  await writeAt(file, Buffer.alloc(4096, 'a'), 65_536);
  for (const offset of BAD) {
    await expect(readAt(file, offset, 4096)).rejects.toThrow('EIO');
    expect(await readAt(file, 65_536, 4096)).toEqual(Buffer.alloc(4096, 'a'));
    await expect(readAt(file, offset, 4096)).rejects.toThrow('EIO');
  }
  for (const offset of BAD)
    await expect(writeAt(file, Buffer.alloc(4096, 'b'), offset)).rejects.toThrow('EIO');
  await writeAt(file, Buffer.alloc(4096, 'c'), 131_072);
  expect(await readAt(file, 131_072, 4096)).toEqual(Buffer.alloc(4096, 'c'));
}

const CACHE = '--cache=none';

const OWN_SERVERS: readonly (readonly [string, (uri: string) => readonly string[]])[] = [
  ['of its own that ends with its connection', (uri) => ['[', 'qemu-nbd', '-f', 'raw', uri, ']']],
  ['of its own that goes on', (uri) => ['--socket-activation', 'qemu-nbd', '-t', '-f', 'raw', uri]],
];

it.each(
  withBackends(OWN_SERVERS).map(([what, server, name, options]) => [what, name, server, options] as const),
)(
  'read errors: only the failed requests fail, with a qemu-nbd %s, by %s',
  async (_, _name, server, options) => {
    const scope = createScope();
    const { file } = await mountDisk(scope, {
      server: server(await badDisk(scope)),
      options: [CACHE, ...options],
    });
    await expectErrorsAlone(file);
  },
);

it.each([1, 4])(
  'read errors: only the failed requests fail, with a URI and %d connections',
  async (count) => {
    const scope = createScope();
    const { uri } = await startQemuNbd(scope, '-f', 'raw', await badDisk(scope));
    const { file } = await mountDisk(scope, { server: [uri()], options: [CACHE, '-C', String(count)] });
    await expectErrorsAlone(file);
  },
);

it('read errors: only the failed requests fail, with the qemu-nbd of an image', async () => {
  const scope = createScope();
  const options = [CACHE, '--overlay'];
  const disk = await mountDisk(scope, { server: [await badDisk(scope)], options });
  await writeAt(disk.file, Buffer.alloc(4096, 'a'), 65_536);
  for (const offset of BAD) await expect(readAt(disk.file, offset, 4096)).rejects.toThrow('EIO');
  expect(await readAt(disk.file, 65_536, 4096)).toEqual(Buffer.alloc(4096, 'a'));
  expect(disk.stderr).not.toContain('the server is lost');
  expect(await disk.stop()).toBe(0);
});

it.each([SIZE, SIZE + 100])(
  'read errors: only the failed requests fail, with an image of %d bytes on a bad disk',
  async (size) => {
    const scope = createScope();
    const server = [await badDisk(scope, size)];
    const bad = await mountDisk(scope, { server, options: [CACHE], name: 'bad', form: 'file name' });
    const disk = await mountDisk(scope, { server: [bad.file], options: [CACHE] });
    await expectErrorsAlone(disk.file);
    expect(await disk.stop()).toBe(0);
    expect(await bad.stop()).toBe(0);
  },
);

it('read errors: a qemu-nbd that goes on and is killed is lost for good', async () => {
  const scope = createScope();
  const uri = await badDisk(scope);
  const disk = await mountDisk(scope, { server: [uri], options: [CACHE, '--overlay'] });
  const servers = await processesOf(scope.folder);
  const server = servers.find(({ command }) => /^\S*qemu-nbd /.test(command));
  process.kill(server?.pid ?? 0, 'SIGKILL');
  await disk.program.says(
    /the server is lost: qemu-nbd was killed by SIGKILL; reads and writes fail with EIO/,
  );
  await expect(readAt(disk.file, 65_536, 4096)).rejects.toThrow('EIO');
});
