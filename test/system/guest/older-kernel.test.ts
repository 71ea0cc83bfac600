// The file system on the kernel of scripts/guest/run, which is older than most: Debian 12's 6.1.
//
// It lacks features of later kernels, such as mapped files that bypass the cache; FUSE_INIT does not offer them.

import { constants, statSync } from 'node:fs';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'fallocate', 'dd');

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;

/** A disk of 4 MiB of `x` in a file, and the number of requests of each kind at the server. */
async function mountLogged(scope: Scope, ...options: readonly string[]) {
  const [image, log] = [scope.path('disk.raw'), scope.path('log')];
  await writeFile(image, Buffer.alloc(SIZE, 'x'));
  const server = ['[', 'nbdkit', '--filter=log', 'file', image, `logfile=${log}`, ']'];
  const disk: MountedDisk = await mountDisk(scope, { server, options });
  const requests = async (): Promise<string[]> =>
    Array.from((await readFile(log, 'utf8')).matchAll(/ (\w+) id=/g), ([, name]) => name);
  return { disk, image, requests };
}

it(`older kernel: is one before 6.6, without direct I/O of mapped files (${release()})`, () => {
  const [major, minor] = release().split('.').map(Number);
  expect(major * 1000 + minor).toBeLessThan(6006);
});

it('older kernel: reads, writes and syncs a disk through the cache', async () => {
  const scope = createScope();
  const { disk, image, requests } = await mountLogged(scope);
  expect(statSync(disk.file).size).toBe(SIZE);
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(Buffer.alloc(10_000, 'y'), 0, 10_000, 777);
  expect(await requests()).not.toContain('Flush');
  await file.sync();
  expect((await requests()).at(-1)).toBe('Flush');
  await file.close();
  const expected = Buffer.alloc(SIZE, 'x').fill('y', 777, 10_777);
  expect((await readFile(disk.file)).equals(expected)).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
  expect((await readFile(image)).equals(expected)).toBe(true);
});

it('older kernel: O_DIRECT bypasses the cache, also for several threads at once', async () => {
  const scope = createScope();
  const { disk, image, requests } = await mountLogged(scope);
  const file = await openFile(scope, disk.file, constants.O_RDWR | constants.O_DIRECT);
  const pages = Array.from({ length: 32 }, (_, i) => Buffer.alloc(4096, i + 1));
  await Promise.all(pages.map((page, i) => file.write(page, 0, 4096, i * 4096)));
  expect((await requests()).filter((name) => name === 'Write').length).toBeGreaterThanOrEqual(32);
  const read = await Promise.all(pages.map((_, i) => file.read(Buffer.alloc(4096), 0, 4096, i * 4096)));
  expect(read.every(({ buffer }, i) => buffer.equals(pages[i]))).toBe(true);
  await file.close();
  expect(await disk.stop()).toBe(0);
  expect((await readFile(image)).subarray(0, 32 * 4096).equals(Buffer.concat(pages))).toBe(true);
});

/** The beginnings of data and holes, as lseek(2) reports them to qemu-img. */
const map = (path: string): Promise<string> =>
  runShell('qemu-img map -f raw --output=json "$0" | grep -o \'"start.*"data": [a-z]*\'', path);

it('older kernel: punches holes, and lseek finds them when nobody has the file open for writing', async () => {
  const scope = createScope();
  const image = scope.path('disk.raw');
  await writeFile(image, '');
  await truncate(image, SIZE);
  const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'file', image, ']'] });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(Buffer.alloc(2 * MIB, 'z'), 0, 2 * MIB, MIB);
  // Data may still be in the kernel, so nbdfuse reports no hole.
  expect(await map(disk.file)).toMatch(/^"start": 0, "length": 4194304, .*"data": true\n$/);
  await file.close();
  await runProgram('fallocate', '-p', '-o', String(MIB), '-l', String(MIB), disk.file);
  expect(await map(disk.file)).toBe(await map(image));
  expect(await map(disk.file)).toContain('"start": 2097152, "length": 1048576');
  const expected = Buffer.alloc(SIZE).fill('z', 2 * MIB, 3 * MIB);
  expect((await readFile(disk.file)).equals(expected)).toBe(true);
  expect(await disk.stop()).toBe(0);
  expect((await readFile(image)).equals(expected)).toBe(true);
});

it('older kernel: --cache=none shows changes of others at once', async () => {
  const scope = createScope();
  const { disk, image } = await mountLogged(scope, '--cache=none');
  const file = await openFile(scope, disk.file, 'r+');
  await file.read(Buffer.alloc(4096), 0, 4096, 0);
  const other = await openFile(scope, image, 'r+');
  await other.write(Buffer.alloc(4096, 'o'), 0, 4096, 0);
  const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
  expect(buffer.equals(Buffer.alloc(4096, 'o'))).toBe(true);
  await file.close();
  expect(await disk.stop()).toBe(0);
});

it('older kernel: mounts over a file', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, {
    server: ['[', 'nbdkit', 'memory', '1M', ']'],
    form: 'existing file',
  });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(Buffer.from('over a file'), 0, 11, MIB - 11);
  await file.close();
  const content = await readFile(disk.file);
  expect([content.length, content.subarray(-11).toString()]).toEqual([MIB, 'over a file']);
  expect(await disk.stop()).toBe(0);
});

it('older kernel: a normal user mounts by fusermount3', async () => {
  const scope = createScope();
  admitNormalUser(scope);
  const [setpriv, ...words] = AS_NORMAL_USER;
  await runProgram(setpriv, ...words, 'mkdir', scope.path('mnt'));
  const disk = await mountDisk(scope, {
    server: ['[', 'nbdkit', 'memory', '1M', ']'],
    prefix: AS_NORMAL_USER,
  });
  const line = 'echo mine | dd of="$0" conv=notrunc status=none && head -c 5 "$0"';
  expect(await runProgram(setpriv, ...words, 'sh', '-c', line, disk.file)).toBe('mine\n');
  expect(await disk.stop()).toBe(0);
});
