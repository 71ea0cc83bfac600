import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { resolveMountpoint } from '../../../src/mount/mountpoint.js';

async function createFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'nbdfuse-test-')));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'dir'));
  await writeFile(join(folder, 'file'), '');
  return folder;
}

it('mountpoint: in a directory is the file nbd', async () => {
  const folder = await createFolder();
  const text = join(folder, 'dir');
  const expected = { kind: 'directory', path: text, filename: 'nbd', notice: undefined };
  expect(await resolveMountpoint(text)).toMatchObject({ ...expected, text });
  expect(await resolveMountpoint(`${text}/`)).toMatchObject({ ...expected, text: `${text}/` });
  const short = relative(process.cwd(), text);
  expect(await resolveMountpoint(short)).toMatchObject({ ...expected, text: short });
});

it('mountpoint: a new name in a directory is the name of the file', async () => {
  const folder = await createFolder();
  const text = join(folder, 'dir', 'disk 1.raw');
  const expected = {
    kind: 'directory',
    path: join(folder, 'dir'),
    filename: 'disk 1.raw',
    notice: undefined,
  };
  expect(await resolveMountpoint(text)).toMatchObject({ ...expected, text });
});

it('mountpoint: an existing file is the mountpoint itself', async () => {
  const folder = await createFolder();
  const text = join(folder, 'file');
  expect(await resolveMountpoint(text)).toMatchObject({
    kind: 'file',
    path: text,
    filename: '',
    text,
    notice: undefined,
  });
});

it('mountpoint: follows symbolic links to the place of the mount', async () => {
  const folder = await createFolder();
  await symlink('dir', join(folder, 'to-dir'));
  await symlink('file', join(folder, 'to-file'));
  expect(await resolveMountpoint(join(folder, 'to-dir'))).toMatchObject({ path: join(folder, 'dir') });
  expect(await resolveMountpoint(join(folder, 'to-file'))).toMatchObject({ path: join(folder, 'file') });
  expect(await resolveMountpoint(join(folder, 'to-dir', 'disk'))).toMatchObject({
    path: join(folder, 'dir'),
    filename: 'disk',
  });
});

it.each([
  [
    'missing/disk',
    /^mountpoint .*missing\/disk: there is no directory .*missing; make it first: mkdir -p .*missing$/,
  ],
  ['missing/', /^mountpoint .*missing\/: there is no directory .*missing\/; make it first: mkdir -p /],
  ['file/disk', /^mountpoint .*file\/disk: .*file is not a directory$/],
  ['file/', /^mountpoint .*file\/: .*file\/ is not a directory$/],
])('mountpoint: refuses %s with the next step', async (name, message) => {
  const folder = await createFolder();
  await expect(resolveMountpoint(`${folder}/${name}`)).rejects.toThrow(message);
});

it('mountpoint: refuses an empty name, which would be the current directory', async () => {
  await expect(resolveMountpoint('')).rejects.toThrow(/^mountpoint: its name is empty/);
});

it('mountpoint: refuses anything but a directory or a regular file', async () => {
  const folder = await createFolder();
  const server = createServer();
  onTestFinished(() => {
    server.close();
  });
  await new Promise<void>((listening) => server.listen(join(folder, 'socket'), listening));
  await expect(resolveMountpoint(join(folder, 'socket'))).rejects.toThrow(
    /socket: it is neither a directory nor a regular file$/,
  );
});

it('mountpoint: refuses a name that no file can have', async () => {
  const folder = await createFolder();
  await expect(resolveMountpoint(join(folder, 'x'.repeat(256)))).rejects.toThrow(
    /^mountpoint .*: ENAMETOOLONG/,
  );
});
