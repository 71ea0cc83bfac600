// The fuse-native backend when connections are lost: the invariant of the library holds for its file.

import { readFileSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { O_DIRECT } from '../../../src/constants/open-flags.js';
import { createScope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { NBD_CMD_FLUSH, NBD_CMD_WRITE } from '../../support/nbd-numbers.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { answerAll, type ScriptedServer, startScriptedServer } from '../../support/scripted-server.js';

requirePrograms('nbdkit');

const OPTIONS = ['--fuse-backend=fuse-native'];
const BLOCK = 4096;
const RDWR = 2;

/** The code of a call that fails. */
const codeOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'resolved',
    (error: NodeJS.ErrnoException) => error.code ?? String(error),
  );

const write = (handle: FileHandle, byte: number, at: number): Promise<string> =>
  codeOf(handle.write(Buffer.alloc(BLOCK, byte), 0, BLOCK, at));

const writesOf = ({ requests }: ScriptedServer): bigint[] =>
  requests.filter(({ type }) => type === NBD_CMD_WRITE).map(({ offset }) => offset);

it('fuse-native: a write whose connection is lost fails and is not repeated, and newer ones wait for the settle time', async () => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size: 1024n * 1024n });
  const disk = await mountDisk(scope, { server: [server.uri], options: [...OPTIONS, '--settle-time=1'] });
  const handle = await openFile(scope, disk.file, RDWR | O_DIRECT);
  server.handler = (request, reply) => {
    if (request.type === NBD_CMD_WRITE) reply.drop();
    else answerAll(request, reply);
  };
  expect(await write(handle, 1, 0)).toBe('EIO');
  server.handler = answerAll;
  expect(await write(handle, 2, BLOCK)).toBe('resolved');
  expect(await write(handle, 2, 0)).toBe('EIO');
  expect(writesOf(server)).toEqual([0n, BigInt(BLOCK)]);
  await until('the settle time', async () => (await write(handle, 2, 0)) === 'resolved');
  await handle.sync();
  await handle.close();
  expect(await disk.stop()).toBe(0);
});

it('fuse-native: fsync fails once when the server may have forgotten writes, for each handle', async () => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size: 1024n * 1024n });
  const disk = await mountDisk(scope, { server: [server.uri], options: OPTIONS });
  const [one, two] = [await openFile(scope, disk.file, 'r+'), await openFile(scope, disk.file, 'r+')];
  expect(await write(one, 1, 0)).toBe('resolved');
  server.die();
  await server.listen();
  expect(await codeOf(one.sync())).toBe('EIO');
  expect([await codeOf(one.sync()), await codeOf(two.sync()), await codeOf(two.sync())]).toEqual([
    'resolved',
    'EIO',
    'resolved',
  ]);
  expect(server.requests.filter(({ type }) => type === NBD_CMD_FLUSH).length).toBeGreaterThan(0);
  for (const handle of [one, two]) await handle.close();
  expect(await disk.stop()).toBe(0);
});

it('fuse-native: a loss that no fsync has reported shows at the end', async () => {
  const scope = createScope();
  const server = await startScriptedServer(scope, { size: 1024n * 1024n });
  const disk = await mountDisk(scope, { server: [server.uri], options: OPTIONS });
  const handle = await openFile(scope, disk.file, RDWR | O_DIRECT);
  expect(await write(handle, 1, 0)).toBe('resolved');
  server.die();
  await server.listen();
  await handle.read(Buffer.alloc(BLOCK), 0, BLOCK, 0);
  await handle.close();
  expect(await disk.stop()).toBe(1);
  expect(disk.stderr).toMatch(/the server may have forgotten changes/);
});

it('fuse-native: the end of a killed server allows newer writes of bytes that were in flight', async () => {
  const scope = createScope();
  const [path, log] = [scope.path('disk.raw'), scope.path('log')];
  writeFileSync(path, Buffer.alloc(1024 * 1024, 1));
  writeFileSync(log, '');
  const slow = ['--filter=log', '--filter=delay', 'file', path, `logfile=${log}`, 'wdelay=60', 'rdelay=60'];
  const server = await startNbdkit(scope, ...slow);
  const disk = await mountDisk(scope, { server: [server.uri()], options: OPTIONS });
  const handle = await openFile(scope, disk.file, RDWR | O_DIRECT);
  const lost = write(handle, 2, 0);
  const waiting = handle.read(Buffer.alloc(BLOCK), 0, BLOCK, BLOCK);
  await until('both requests at the server', () => {
    const text = readFileSync(log, 'utf8');
    return / Read id/.test(text) && / Write id/.test(text);
  });
  server.program.child.kill('SIGKILL');
  expect(await lost).toBe('EIO');
  await server.program.ended;
  await startNbdkit(scope, 'file', path);
  expect((await waiting).buffer.equals(Buffer.alloc(BLOCK, 1))).toBe(true);
  expect(await write(handle, 3, 0)).toBe('resolved');
  expect(await codeOf(handle.sync())).toBe('resolved');
  await handle.close();
  expect(await disk.stop()).toBe(0);
});

it('fuse-native: with --restart the end of the child allows newer writes of bytes that were in flight', async () => {
  const scope = createScope();
  const [path, log, pidfile] = [scope.path('disk.raw'), scope.path('log'), scope.path('pid')];
  writeFileSync(path, Buffer.alloc(1024 * 1024, 1));
  writeFileSync(log, '');
  const child = ['nbdkit', '-P', pidfile, '--filter=log', '--filter=delay', 'file', path];
  const server = ['[', ...child, `logfile=${log}`, 'wdelay=1', ']'];
  const disk = await mountDisk(scope, { server, options: [...OPTIONS, '--restart'] });
  const handle = await openFile(scope, disk.file, RDWR | O_DIRECT);
  const lost = write(handle, 2, 0);
  await until('the write at the server', () => / Write id/.test(readFileSync(log, 'utf8')));
  process.kill(Number(readFileSync(pidfile, 'utf8')), 'SIGKILL');
  expect(await lost).toBe('EIO');
  await until('a newer write', async () => (await write(handle, 3, 0)) === 'resolved');
  await handle.sync();
  await handle.close();
  expect(await disk.stop()).toBe(0);
});
