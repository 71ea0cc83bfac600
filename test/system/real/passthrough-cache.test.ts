// FUSE passthrough with the cache file of an image: the kernel reads it as soon as it is complete.

import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { descendant } from '../../support/run/descendants.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requireRoot();
requirePrograms('nbdkit', 'xz');

const BYTES = Buffer.alloc(3 * 1024 * 1024, 'the bytes of a disk; ');

const isActive = async ({ mountpoint }: MountedDisk): Promise<boolean> => {
  const text = await runProgram('node', NBDFUSE, '--status', '--json', mountpoint);
  return JSON.parse(text).files[0].passthrough.active;
};

const lettersOf = async (path: string): Promise<string> =>
  [...new Set((await readFile(path)).toString('latin1'))].join('');

it('passthrough: the kernel reads the cache file when it is complete, and from the start at the next mount', async () => {
  const scope = createScope();
  const image = scope.path('disk.img');
  writeFileSync(image, BYTES);
  await runProgram('xz', '-T1', '--block-size=512KiB', image);
  const options = ['-r', '-v', '--cache-file', scope.path('cache')];
  const server = [`${image}.xz`];
  const empty = await mountDisk(scope, { server, options });
  expect(await isActive(empty)).toBe(false);
  await empty.stop();
  const filled = await mountDisk(scope, { server, options: [...options, '--prefetch'] });
  await until('the complete cache file', () => isActive(filled));
  expect((await readFile(filled.file)).equals(BYTES)).toBe(true);
  await filled.stop();
  const complete = await mountDisk(scope, { server, options });
  expect((await readFile(complete.file)).equals(BYTES)).toBe(true);
  expect(await isActive(complete)).toBe(true);
  expect(complete.stderr).toContain('nbdfuse: passthrough: yes\n');
  expect(complete.stderr).not.toContain('FUSE_READ ');
  expect(await complete.stop()).toBe(0);
});

it('passthrough: the bytes of a disk stay when its server comes back with another one', async () => {
  const scope = createScope();
  const [first, second] = ['A', 'B'].map((letter) => {
    const path = scope.path(letter);
    writeFileSync(path, Buffer.alloc(BYTES.length, letter));
    return path;
  });
  const server = await startNbdkit(scope, '--readonly', 'file', first);
  const options = ['-r', '--cache-file', scope.path('cache')];
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  // The worker has a sample only of bytes that come through its memory, as those of short reads do.
  expect((await readAt(disk.file, 0, 512)).toString()).toBe('A'.repeat(512));
  expect(await lettersOf(disk.file)).toBe('A');
  await until('the complete cache file', () => isActive(disk));
  await server.program.kill('SIGKILL');
  await startNbdkit(scope, '--readonly', 'file', second);
  await disk.program.says(/the server has another disk now; the cache file has all of the former one/);
  // The chunk server changes its files once a second.
  await pause(1500);
  expect(await lettersOf(disk.file)).toBe('A');
  expect(await disk.stop()).toBe(0);
  const next = await mountDisk(scope, { server: [server.uri()], options });
  expect(await lettersOf(next.file)).toBe('B');
  expect(await next.stop()).toBe(0);
});

it('passthrough: the bytes of a disk stay when its chunk server is killed, and starts again with another one', async () => {
  const scope = createScope();
  const path = scope.path('disk.img');
  writeFileSync(path, Buffer.alloc(BYTES.length, 'A'));
  const cache = scope.path('cache');
  const server = await startNbdkit(scope, '--readonly', 'file', path);
  const options = ['-r', '--restart', '--cache-file', cache];
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  expect(await lettersOf(disk.file)).toBe('A');
  await until('the complete cache file', () => isActive(disk));
  const handle = await openFile(scope, disk.file, 'r');
  expect(await isActive(disk)).toBe(true);
  writeFileSync(path, Buffer.alloc(BYTES.length, 'B'));
  const { pid } = await descendant(disk.program.pid, /nbdfuse-chunks/);
  process.kill(pid, 'SIGKILL');
  await disk.program.says(/going on without it, since programs still read the cache/);
  // The chunk server changes its files once a second.
  await pause(1500);
  expect(await lettersOf(disk.file)).toBe('A');
  const { buffer } = await handle.read(Buffer.alloc(BYTES.length), 0, BYTES.length, 0);
  expect(buffer.equals(Buffer.alloc(BYTES.length, 'A'))).toBe(true);
});
