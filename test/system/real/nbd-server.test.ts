import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdServer } from '../../support/run/servers.js';

requirePrograms('nbd-server');

const SIZE = 4 * 1024 * 1024;
const TEXT = Buffer.alloc(300_000, 'kept by nbd-server; ');

it.each(BACKENDS)('nbd-server: reads and writes an exported file, by %s', async (_, options) => {
  const scope = createScope();
  const file = scope.path('raw');
  await writeFile(file, 'what was there');
  await truncate(file, SIZE);
  const server = await startNbdServer(scope, file, 'flush = true', 'trim = true');
  const disk = await mountDisk(scope, { server: [server.uri('disk')], options });
  expect((await readFile(disk.file)).subarray(0, 14).toString()).toBe('what was there');
  const handle = await open(disk.file, 'r+');
  await handle.write(TEXT, 0, TEXT.length, 1_000_001);
  await handle.close();
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
  expect((await readFile(file)).subarray(1_000_001, 1_000_001 + TEXT.length).equals(TEXT)).toBe(true);
});

it('nbd-server: a read-only export mounts read-only', async () => {
  const scope = createScope();
  const file = scope.path('raw');
  await writeFile(file, '');
  await truncate(file, SIZE);
  const server = await startNbdServer(scope, file, 'readonly = true');
  const disk = await mountDisk(scope, { server: [server.uri('disk')] });
  await expect(open(disk.file, 'r+')).rejects.toThrow('EROFS');
});

it('nbd-server: an unknown export name fails with the names of the exports', async () => {
  const scope = createScope();
  const file = scope.path('raw');
  await writeFile(file, '');
  await truncate(file, SIZE);
  const server = await startNbdServer(scope, file);
  await expect(mountDisk(scope, { server: [server.uri('disc')] })).rejects.toThrow(
    /nbdfuse: .*"?disc"?.*disk/,
  );
});
