// The chunk server on top of an NBD server that is cut off, killed and started again: no program sees that.

import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { CuttingProxy } from '../../support/run/cutting-proxy.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import type { Scope } from '../../support/run/scope.js';
import { startNbdkit, uriOf } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

const SIZE = 4 * 1024 * 1024;
const BLOCK = 4096;
/** Bytes of a place in a disk that name the place. */
const bytesAt = (at: number): Buffer => Buffer.alloc(BLOCK, `${at} `);

/** A server whose requests take so long that a test can cut a connection during one, and a proxy before it. */
async function slowServer(scope: Scope): Promise<{ disk: string; proxy: CuttingProxy; uri: string }> {
  const disk = scope.path('disk.raw');
  const bytes = Buffer.concat(Array.from({ length: SIZE / BLOCK }, (_, i) => bytesAt(i * BLOCK)));
  writeFileSync(disk, bytes);
  const words = ['--filter=log', '--filter=delay', 'file', disk, 'rdelay=300ms', 'wdelay=300ms'];
  const server = await startNbdkit(scope, ...words, `logfile=${scope.path('requests')}`);
  const proxy = await CuttingProxy.open(scope, scope.path('proxy'), { path: server.socket });
  return { disk, proxy, uri: uriOf({ path: scope.path('proxy') }) };
}

const requests = (scope: Scope, kind: string): number =>
  readFileSync(scope.path('requests'), 'utf8').split(` ${kind} `).length;

const mountOf = (scope: Scope, uri: string, ...options: readonly string[]): Promise<MountedDisk> =>
  mountDisk(scope, {
    server: [uri],
    options: ['--cache=none', `--cache-file=${scope.path('cache')}`, '--settle-time=1', ...options],
  });

it('chunk server: a read or write whose connection below is cut is sent again', async () => {
  const scope = createScope();
  const { disk, proxy, uri } = await slowServer(scope);
  const mounted = await mountOf(scope, uri);
  const handle = await open(mounted.file, 'r+');
  const before = requests(scope, 'Read');
  const read = handle.read(Buffer.alloc(BLOCK), 0, BLOCK, (2 * SIZE) / 4);
  await until('the read to arrive', () => requests(scope, 'Read') > before);
  proxy.cut(Number.POSITIVE_INFINITY);
  expect((await read).buffer.equals(bytesAt(SIZE / 2))).toBe(true);
  const written = handle.write(Buffer.alloc(BLOCK, 'w'), 0, BLOCK, SIZE / 4);
  await until('the write to arrive', () => requests(scope, 'Write') > 1);
  proxy.cut(Number.POSITIVE_INFINITY);
  expect((await written).bytesWritten).toBe(BLOCK);
  await handle.sync();
  await handle.close();
  expect(
    readFileSync(disk)
      .subarray(SIZE / 4, SIZE / 4 + BLOCK)
      .equals(Buffer.alloc(BLOCK, 'w')),
  ).toBe(true);
  expect(await mounted.stop()).toBe(0);
});

it('chunk server: a stat after a change, an open and a close take few requests on a disk with many holes', async () => {
  const scope = createScope();
  const disk = scope.path('disk.raw');
  writeFileSync(disk, '');
  truncateSync(disk, 64 * 1024 * 1024);
  const file = await open(disk, 'r+');
  const extents = 512;
  for (let i = 0; i < extents; i++) await file.write(bytesAt(i), 0, BLOCK, i * 32 * BLOCK);
  await file.close();
  const server = await startNbdkit(scope, '--filter=log', 'file', disk, `logfile=${scope.path('requests')}`);
  const mounted = await mountOf(scope, uriOf({ path: server.socket }));
  const handle = await open(mounted.file, 'r+');
  await handle.write(bytesAt(7), 0, BLOCK, 16 * BLOCK);
  await handle.close();
  expect(statSync(mounted.file).blocks * 512).toBe((extents + 1) * BLOCK);
  const [flushes, writes] = [requests(scope, 'Flush'), requests(scope, 'Write')];
  for (let i = 0; i < 3; i++) {
    const reader = await open(mounted.file, 'r');
    await reader.read(Buffer.alloc(BLOCK), 0, BLOCK, i * 32 * BLOCK);
    await reader.close();
  }
  expect(requests(scope, 'Extents')).toBeLessThan(16);
  expect([requests(scope, 'Flush'), requests(scope, 'Write')]).toEqual([flushes, writes]);
});
