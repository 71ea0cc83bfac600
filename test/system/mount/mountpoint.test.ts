import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { resolveMountpoint } from '../../../src/mount/mountpoint.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';

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

it('mountpoint: tells that a new name in a directory hides the other files there', async () => {
  const folder = await createFolder();
  expect((await resolveMountpoint(join(folder, 'dir/disk'))).hides).toBeUndefined();
  await writeFile(join(folder, 'dir/other'), '');
  const text = join(folder, 'dir/../dir/disk');
  const directory = join(folder, 'dir');
  expect((await resolveMountpoint(text)).hides).toBe(
    `mountpoint ${text}: the mount covers the directory ${directory} and hides its other files until you unmount it: ` +
      `nbdfuse --unmount ${directory}`,
  );
  // The directory itself is no mistake, and neither is a file that exists.
  for (const name of ['dir', 'dir/other'])
    expect((await resolveMountpoint(join(folder, name))).hides).toBeUndefined();
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

it('mountpoint: refuses a name that no file can have, and a link that leads to itself', async () => {
  const folder = await createFolder();
  await expect(resolveMountpoint(join(folder, 'x'.repeat(256)))).rejects.toThrow(
    /^mountpoint .*: file name too long; Linux allows 255 bytes in a name, and 4095 in a path$/,
  );
  await symlink('loop', join(folder, 'loop'));
  for (const name of ['loop', 'loop/', 'loop/disk']) {
    await expect(resolveMountpoint(join(folder, name))).rejects.toThrow(
      /^mountpoint .*: too many levels of symbolic links; a link there leads to itself: remove it, /,
    );
  }
});

/** Runs `act` with a folder as the current directory, which a worker thread of the tests cannot change. */
async function resolveIn(folder: string, text: string): Promise<{ status: number; stderr: string }> {
  const words = [
    '-c',
    'cd "$1"; shift; exec "$@"',
    'sh',
    folder,
    process.execPath,
    NBDFUSE,
    text,
    'nbd://localhost:1',
  ];
  return tryProgram('sh', ...words);
}

it.each([
  [
    'dsik',
    'there is no such directory or file; make it first: mkdir dsik; or name a directory for the new file: DIR/dsik',
  ],
  ['a b/disk', "there is no directory a b; make it first: mkdir -p 'a b'"],
  ['dangling', 'it is a symbolic link to something that does not exist; remove it, or create its target'],
  ['dir/dangling', 'it is a symbolic link to something that does not exist; remove it, or create its target'],
  ['./dangling', 'it is a symbolic link to something that does not exist; remove it, or create its target'],
  ['dangling/', 'there is no directory dangling/; make it first: mkdir -p dangling/'],
  ['dangling/disk', 'there is no directory dangling; make it first: mkdir -p dangling'],
  ['missing/..', 'there is no directory missing/..; make it first: mkdir -p missing/..'],
  ['missing/../disk', 'there is no directory missing/..; make it first: mkdir -p missing/..'],
  ['missing/.', 'there is no directory missing/.; make it first: mkdir -p missing/.'],
  ['file/../disk', 'file/.. is not a directory'],
  ['fifo', 'it is neither a directory nor a regular file'],
  ['dir/to-fifo', 'it is neither a directory nor a regular file'],
  ['to-file/disk', 'to-file is not a directory'],
])('mountpoint: %s never covers another directory', async (text, why) => {
  const folder = await createFolder();
  await symlink('nowhere', join(folder, 'dangling'));
  await symlink('nowhere', join(folder, 'dir', 'dangling'));
  await symlink('../fifo', join(folder, 'dir', 'to-fifo'));
  await symlink('file', join(folder, 'to-file'));
  await runProgram('mkfifo', join(folder, 'fifo'));
  const { status, stderr } = await resolveIn(folder, text);
  expect([status, stderr]).toEqual([1, `nbdfuse: mountpoint ${text}: ${why}\n`]);
});

it('mountpoint: a path through .. is the one that the system sees, behind links too', async () => {
  const folder = await createFolder();
  await mkdir(join(folder, 'dir', 'inner'));
  await symlink('dir/inner', join(folder, 'link'));
  expect(await resolveMountpoint(`${join(folder, 'dir', 'inner')}/../disk`)).toMatchObject({
    path: join(folder, 'dir'),
    filename: 'disk',
  });
  expect(await resolveMountpoint(`${folder}/link/..`)).toMatchObject({ path: join(folder, 'dir') });
  expect(await resolveMountpoint(`${folder}/link/../disk`)).toMatchObject({
    path: join(folder, 'dir'),
    filename: 'disk',
  });
});

it('current directory: a deleted one is refused with the next step', async () => {
  const folder = await createFolder();
  const words = [
    '-c',
    'cd "$1"; rmdir "$1"; shift; exec "$@"',
    'sh',
    join(folder, 'dir'),
    process.execPath,
    NBDFUSE,
  ];
  for (const text of ['.', 'disk', '/mnt']) {
    await mkdir(join(folder, 'dir'), { recursive: true });
    const { status, stderr } = await tryProgram('sh', ...words, text, 'nbd://localhost:1');
    expect([status, stderr]).toEqual([
      1,
      'nbdfuse: the current directory was deleted; change to another one: cd /\n',
    ]);
  }
});

it.each([
  '/',
  '/dev',
  '/proc',
  '/sys',
  '/etc',
  '/usr',
  '/bin',
  '/tmp',
  '/var',
  '/run',
  '/dev/shm',
  '/proc/self',
  '/sys/fs',
  '/dev/../proc',
  '/nbd.raw',
  '/dev/nbd.raw',
])('mountpoint: refuses %s, which programs need', async (text) => {
  await expect(resolveMountpoint(text)).rejects.toThrow(
    /^mountpoint .*: nbdfuse does not mount over .*, which programs need; use an empty directory$/,
  );
});
