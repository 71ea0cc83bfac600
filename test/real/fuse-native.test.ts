import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope, mountsBelow } from '../helpers/cleanup.js';
import { readAt, writeAt } from '../helpers/files.js';
import { mountDisk } from '../helpers/mount.js';
import { requirePrograms } from '../helpers/requires.js';
import { runProgram } from '../helpers/run.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img');

const OPTIONS = ['--fuse-backend=fuse-native'];
const MIB = 1024 * 1024;

it.each(['directory', 'file name'] as const)('serves a disk by libfuse, form %s', async (form) => {
  const scope = createScope();
  const backing = scope.path('disk');
  await writeFile(backing, '');
  await truncate(backing, 4 * MIB);
  const server = ['[', 'nbdkit', 'file', backing, ']'];
  const disk = await mountDisk(scope, { server, options: OPTIONS, form });
  expect((await readdir(disk.mountpoint)).length).toBe(1);
  expect((await stat(disk.file)).size).toBe(4 * MIB);
  const text = Buffer.alloc(500_001, 'through libfuse; ');
  await writeAt(disk.file, text, 1_000_001);
  expect((await readAt(disk.file, 1_000_001, text.length)).equals(text)).toBe(true);
  expect((await readAt(disk.file, 4 * MIB - 10, 100)).length).toBe(10);
  const handle = await open(disk.file, 'r+');
  await handle.sync();
  await handle.close();
  expect(await disk.stop()).toBe(0);
  expect(await mountsBelow(scope.folder)).toEqual([]);
  expect((await readFile(backing)).subarray(1_000_001, 1_000_001 + text.length).equals(text)).toBe(true);
});

it('writes into a qcow2 file by libfuse and ends when it is unmounted', async () => {
  const scope = createScope();
  const image = scope.path('disk.qcow2');
  await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', image, '8G');
  const server = ['[', 'qemu-nbd', '-f', 'qcow2', image, ']'];
  const disk = await mountDisk(scope, { server, options: OPTIONS });
  await writeAt(disk.file, Buffer.alloc(MIB, 0x33), 6 * 1024 * MIB);
  await runProgram('umount', disk.mountpoint);
  expect(await disk.program.ended).toBe(0);
  await runProgram('qemu-io', '-r', '-f', 'qcow2', '-c', 'read -P 0x33 6G 1M', image);
});
