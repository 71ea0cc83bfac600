import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS, withBackends } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { openFile, writeAt } from '../../support/files.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { createShPlugin } from '../../support/sh-plugin.js';

requirePrograms('nbdkit');

const MIB = 1024 * 1024;

it.each(BACKENDS)(
  'nbdkit sh: the error of one read reaches its own program, and no other, by %s',
  async (_, options) => {
    const scope = createScope();
    const failures = ["'pread 1048576') echo EIO bad sector >&2; exit 1;;"];
    const plugin = createShPlugin(scope, { size: 4 * MIB, failures });
    const server = ['[', 'nbdkit', 'sh', plugin.script, ']'];
    const disk = await mountDisk(scope, { server, options: ['--cache=none', ...options] });
    const handle = await openFile(scope, disk.file, 'r');
    const readAt = (offset: number) => handle.read(Buffer.alloc(4096), 0, 4096, offset);
    const outcomes = await Promise.allSettled([0, MIB, 2 * MIB, 3 * MIB].map(readAt));
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({ reason: { code: 'EIO' } });
    expect((await readAt(MIB + 4096)).bytesRead).toBe(4096);
    await expect(readAt(MIB)).rejects.toThrow('EIO');
    await handle.close();
    expect(await disk.stop()).toBe(0);
  },
);

const ERRNOS = withBackends([['ENOSPC'], ['EPERM'], ['ENOMEM'], ['EIO']] as const);

it.each(ERRNOS)("nbdkit sh: a write fails with the server's errno: %s, by %s", async (named, _, options) => {
  const scope = createScope();
  const failures = [`'pwrite 65536') cat >/dev/null; echo ${named} no >&2; exit 1;;`];
  const plugin = createShPlugin(scope, { size: MIB, failures });
  const server = ['[', 'nbdkit', 'sh', plugin.script, ']'];
  const disk = await mountDisk(scope, { server, options: ['--cache=none', ...options] });
  const handle = await openFile(scope, disk.file, 'r+');
  const page = Buffer.alloc(4096, 'x');
  await expect(handle.write(page, 0, 4096, 65_536)).rejects.toThrow(named);
  await handle.write(page, 0, 4096, 131_072);
  expect((await readFile(plugin.disk)).subarray(131_072, 131_072 + 4096).equals(page)).toBe(true);
});

it('nbdkit sh: a server without a minimum block size gets whole sectors', async () => {
  const scope = createScope();
  const plugin = createShPlugin(scope, { size: MIB });
  await writeAt(plugin.disk, Buffer.alloc(4096, 'b'), 0);
  const server = ['[', 'nbdkit', 'sh', plugin.script, ']'];
  const disk = await mountDisk(scope, { server, options: ['--cache=none'] });
  await writeAt(disk.file, Buffer.alloc(700, 'a'), 1000);
  expect(plugin.log()).toContainEqual(expect.stringMatching(/^pwrite 1536 512/));
  const expected = `${'b'.repeat(1000)}${'a'.repeat(700)}${'b'.repeat(2396)}`;
  expect((await readFile(plugin.disk)).subarray(0, 4096).toString()).toBe(expected);
});

it('nbdkit sh: a server with minimum 1 gets exactly the written bytes, and a FLUSH for fsync', async () => {
  const scope = createScope();
  const plugin = createShPlugin(scope, { size: MIB, blockSizes: '1 4096 1048576' });
  const server = ['[', 'nbdkit', 'sh', plugin.script, ']'];
  const disk = await mountDisk(scope, { server, options: ['--cache=none'] });
  const handle = await openFile(scope, disk.file, 'r+');
  await handle.write(Buffer.alloc(700, 'a'), 0, 700, 1000);
  await handle.sync();
  const log = plugin.log();
  expect(log.filter((line) => line.startsWith('pwrite'))).toEqual([
    expect.stringMatching(/^pwrite 700 1000/),
  ]);
  expect(log.indexOf('flush')).toBeGreaterThan(log.findIndex((line) => line.startsWith('pwrite')));
  await handle.close();
});

it('nbdkit sh: mounts an export whose name has 3000 bytes', async () => {
  const scope = createScope();
  const name = `${'ä/ %?#'.repeat(428)}end!`;
  expect(Buffer.byteLength(name)).toBe(3000);
  const plugin = createShPlugin(scope, { size: MIB });
  const server = await startNbdkit(scope, 'sh', plugin.script);
  await mountDisk(scope, { server: [server.uri(name)] });
  expect(plugin.log()).toContain(`open ${name}`);
});
