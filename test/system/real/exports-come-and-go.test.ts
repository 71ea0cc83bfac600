// --all with a real server whose exports come, go and change while the directory is mounted.

import { truncateSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { ChangingServer } from '../../support/qmp.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('qemu-storage-daemon');

const MIB = 1024 * 1024;

function image(scope: Scope, name: string, mebibytes: number): string {
  const path = scope.path(name);
  writeFileSync(path, Buffer.alloc(4096, name));
  truncateSync(path, mebibytes * MIB);
  return path;
}

it('--all: shows new exports and hides removed ones, with their sizes and rights', async () => {
  const scope = createScope();
  const server = await ChangingServer.start(scope);
  await server.add('a', image(scope, 'a.raw', 1), false);
  const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri], options: ['--all'] });
  const seen = (...names: string[]): Promise<void> =>
    until(`the files ${names}`, async () => (await readdir(mountpoint)).join() === names.join());
  await seen('a');
  expect(await stat(`${mountpoint}/a`)).toMatchObject({ size: MIB, mode: 0o100444 });
  await expect(open(`${mountpoint}/a`, 'r+')).rejects.toThrow(/EROFS/);
  await server.add('b', image(scope, 'b.raw', 2));
  await seen('a', 'b');
  expect(await stat(`${mountpoint}/b`)).toMatchObject({ size: 2 * MIB, mode: 0o100644 });
  await server.remove('a');
  await seen('b');
  await until('the end of the name a', () =>
    stat(`${mountpoint}/a`).then(
      () => false,
      () => true,
    ),
  );
  // nbdfuse looks a missing name up at the server, even if nobody reads the directory.
  await server.add('c', image(scope, 'c.raw', 3));
  await until('a file c', () =>
    stat(`${mountpoint}/c`).then(
      () => true,
      () => false,
    ),
  );
  expect((await readFile(`${mountpoint}/c`)).subarray(0, 4096)).toEqual(Buffer.alloc(4096, 'c.raw'));
  expect(await stop()).toBe(0);
});

it('--all: an open file of a removed export fails after the time of --reconnect, and works again later', async () => {
  const scope = createScope();
  const server = await ChangingServer.start(scope);
  await server.add('a', image(scope, 'a.raw', 1));
  await server.add('b', image(scope, 'b.raw', 1));
  const options = ['--all', '--reconnect=1', '--cache=none'];
  const { mountpoint, program, stop } = await mountDisk(scope, { server: [server.uri], options });
  const handle = await open(`${mountpoint}/a`, 'r+');
  const other = await open(`${mountpoint}/b`, 'r+');
  await handle.write(Buffer.alloc(4096, 1), 0, 4096, 0);
  await server.remove('a');
  await expect(handle.read(Buffer.alloc(4096), 0, 4096, 0)).rejects.toThrow(/EIO/);
  expect(program.stderr).toMatch(/mnt\/a: no server for \d+ s: .*no such export/);
  await other.write(Buffer.alloc(4096, 2), 0, 4096, 0);
  await server.add('a', `${scope.path('a.raw')}`);
  await until('the file to heal', () =>
    handle.read(Buffer.alloc(4096), 0, 4096, 0).then(
      () => true,
      () => false,
    ),
  );
  await handle.close();
  await other.close();
  expect(await stop()).toBe(0);
});

it('--all: an export with a new size is another file, even if nbdfuse notices the change at open(2)', async () => {
  const scope = createScope();
  const server = await ChangingServer.start(scope);
  await server.add('a', image(scope, 'small.raw', 1));
  const { mountpoint, stop, program } = await mountDisk(scope, { server: [server.uri], options: ['--all'] });
  expect((await stat(`${mountpoint}/a`)).size).toBe(MIB);
  await server.remove('a');
  await server.add('a', image(scope, 'large.raw', 5));
  const handle = await open(`${mountpoint}/a`, 'r');
  expect((await handle.stat()).size).toBe(5 * MIB);
  expect((await handle.read(Buffer.alloc(9), 0, 9, 0)).buffer.toString()).toBe('large.raw');
  await server.remove('a');
  await server.add('a', image(scope, 'other.raw', 7));
  await until('the new size', async () => {
    await readdir(mountpoint);
    return (await stat(`${mountpoint}/a`)).size === 7 * MIB;
  });
  expect((await handle.stat()).size).toBe(5 * MIB);
  await handle.close();
  expect(await stop(), program.stderr).toBe(0);
});
