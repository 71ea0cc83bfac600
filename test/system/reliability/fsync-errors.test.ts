// A server that fails a FLUSH: every program that has the file open learns of it at its next fsync, once.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

/** An nbdkit with one file, whose FLUSH fails while `bad` exists, and which shows its export while `gone` does not. */
function failingServer(scope: Scope): { server: string[]; bad: string; gone: string; log: string } {
  const [disk, bad, gone, log] = ['disk', 'bad', 'gone', 'log'].map((name) => scope.path(name));
  writeFileSync(disk, Buffer.alloc(1024 * 1024));
  const plugin = [
    'thread_model=echo parallel',
    `list_exports=echo NAMES; [ -e ${gone} ] || echo a`,
    'open=exit 0',
    'get_size=echo 1048576',
    'can_write=exit 0',
    'can_flush=exit 0',
    'can_multi_conn=exit 0',
    `pread=dd if=${disk} iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=64k status=none`,
    `pwrite=dd of=${disk} oflag=seek_bytes seek=$4 conv=notrunc bs=64k status=none`,
    `flush=[ ! -e ${bad} ] || { echo EIO the medium is gone >&2; exit 1; }; echo flushed >>${log}`,
    `close=echo closed >>${log}`,
  ];
  return { server: ['[', 'nbdkit', 'eval', ...plugin, ']'], bad, gone, log };
}

it.each(BACKENDS)('fsync: a failed FLUSH shows once at each open handle, by %s', async (_, options) => {
  const scope = createScope();
  const { server, bad } = failingServer(scope);
  const mount = await mountDisk(scope, { server, options: ['--cache=none', ...options] });
  const [one, two] = [await openFile(scope, mount.file, 'r+'), await openFile(scope, mount.file, 'r+')];
  await one.write(Buffer.alloc(4096, 1), 0, 4096, 0);
  await two.write(Buffer.alloc(4096, 2), 0, 4096, 4096);
  writeFileSync(bad, '');
  await expect(one.sync()).rejects.toThrow(/EIO/);
  rmSync(bad);
  const later = await openFile(scope, mount.file, 'r+');
  await later.sync();
  await one.sync();
  await expect(two.sync()).rejects.toThrow(/EIO/);
  await two.sync();
  for (const handle of [one, two, later]) await handle.close();
  expect(await mount.stop()).toBe(0);
});

it('fsync: a failed FLUSH is one line until a FLUSH succeeds, and --status counts it', async () => {
  const scope = createScope();
  const { server, bad } = failingServer(scope);
  const mount = await mountDisk(scope, { server, options: ['--cache=none'] });
  const handle = await openFile(scope, mount.file, 'r+');
  await handle.write(Buffer.alloc(4096, 1), 0, 4096, 0);
  writeFileSync(bad, '');
  for (let i = 0; i < 3; i++) await expect(handle.sync()).rejects.toThrow(/EIO/);
  rmSync(bad);
  await handle.sync();
  await handle.close();
  const status = await runProgram('node', NBDFUSE, '--status', '--json', mount.mountpoint);
  expect(JSON.parse(status)).toMatchObject({ files: [{ writebackErrors: 3 }] });
  expect(await mount.stop()).toBe(0);
  expect(
    mount.stderr.match(/the server failed to flush writes \(EIO\): some writes may be lost/g),
  ).toHaveLength(1);
});

it('--all: a loss that no fsync reported shows in the exit status, even if the file has disappeared', async () => {
  const scope = createScope();
  const { server, bad, gone, log } = failingServer(scope);
  const mount = await mountDisk(scope, { server, options: ['--all', '--cache=none'] });
  const handle = await openFile(scope, `${mount.mountpoint}/a`, 'r+');
  await handle.write(Buffer.alloc(4096, 1), 0, 4096, 0);
  writeFileSync(bad, '');
  writeFileSync(gone, '');
  await handle.close();
  await until('the end of the file', async () => (await readdir(mount.mountpoint)).length === 0);
  await until('the failed FLUSH', () => mount.stderr.includes('a: the server failed to flush writes (EIO)'));
  rmSync(bad);
  await until('the end of its connections', () => /flushed\n(.*\n)*closed/.test(readFileSync(log, 'utf8')));
  expect(await mount.stop()).toBe(1);
  expect(mount.stderr).toMatch(/some writes may be lost; see the messages above/);
});
