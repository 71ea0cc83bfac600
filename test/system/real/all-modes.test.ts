// --all with nbd-server, in the background, with its status, and its refusals.

import { mkdirSync, writeFileSync } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit, startNbdServer } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'nbd-server', 'fio');

const MIB = 1024 * 1024;

function makeImages(scope: Scope, ...names: readonly string[]): string {
  const folder = scope.path('images');
  mkdirSync(folder);
  for (const name of names) writeFileSync(`${folder}/${name}`, Buffer.alloc(4 * MIB, name));
  return folder;
}

it('--all: shows the exports of nbd-server, which reports sizes only to clients of the export', async () => {
  const scope = createScope();
  const folder = makeImages(scope, 'one', 'two');
  const server = await startNbdServer(scope, `${folder}/one`, '[second]', `exportname = ${folder}/two`);
  const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri()], options: ['--all'] });
  expect((await readdir(mountpoint)).sort()).toEqual(['disk', 'second']);
  expect((await stat(`${mountpoint}/disk`)).size).toBe(4 * MIB);
  expect((await readFile(`${mountpoint}/second`)).equals(Buffer.alloc(4 * MIB, 'two'))).toBe(true);
  expect(await stop()).toBe(0);
});

it('--all: several jobs write to several files at once, and read the right data again', async () => {
  const scope = createScope();
  const names = ['a', 'b', 'c'];
  const server = await startNbdkit(scope, 'file', `dir=${makeImages(scope, ...names)}`);
  const { mountpoint, stop } = await mountDisk(scope, { server: [server.uri()], options: ['--all'] });
  const jobs = names.flatMap((name) => [`--name=${name}`, `--filename=${mountpoint}/${name}`]);
  const common = [
    '--rw=randwrite',
    '--bs=4k',
    '--size=4M',
    '--verify=crc32c',
    '--fallocate=none',
    '--fsync=64',
  ];
  await runProgram('fio', ...common, '--verify_fatal=1', ...jobs);
  for (const name of names) expect((await stat(`${mountpoint}/${name}`)).size).toBe(4 * MIB);
  expect(await stop()).toBe(0);
});

it('--all: --status shows which files are connected, and --unmount ends a background mount', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, 'file', `dir=${makeImages(scope, 'a', 'b')}`);
  mkdirSync(scope.path('mnt'));
  const mountpoint = scope.path('mnt');
  const nbdfuse = (...words: string[]): Promise<string> => runProgram('node', NBDFUSE, ...words);
  scope.add(() => nbdfuse('--unmount', mountpoint).catch(() => undefined));
  await nbdfuse('--all', '--daemon', '-r', '-P', scope.path('pid'), mountpoint, server.uri());
  const handle = await open(`${mountpoint}/a`, 'r');
  const { files } = JSON.parse(await nbdfuse('--status', '--json', mountpoint)) as {
    files: { path: string; state: string; export: string; size: string; readOnly: boolean }[];
  };
  expect(files).toMatchObject([
    { path: `${mountpoint}/a`, state: 'connected', export: 'a', size: String(4 * MIB), readOnly: true },
    { path: `${mountpoint}/b`, state: 'idle', export: 'b', size: String(4 * MIB), readOnly: true },
  ]);
  await expect(open(`${mountpoint}/b`, 'r+')).rejects.toThrow(/EROFS/);
  await handle.close();
  await nbdfuse('--unmount', mountpoint);
  expect(await readdir(mountpoint)).toEqual([]);
});

describe('--all refuses', () => {
  it.each<[string, (scope: Scope) => string[], RegExp]>([
    [
      'a file as its mountpoint',
      (scope) => [scope.path('mnt', 'disk.raw')],
      /mountpoint .*disk\.raw: --all needs a directory; make it first: mkdir -p /,
    ],
    [
      'fuse-native',
      (scope) => ['--fuse-backend=fuse-native', scope.path('mnt')],
      /--all cannot be used with fuse-native; use --fuse-backend=kernel/,
    ],
  ])('%s with one line', async (_, words, line) => {
    const scope = createScope();
    mkdirSync(scope.path('mnt'));
    const server = await startNbdkit(scope, 'file', `dir=${makeImages(scope, 'a')}`);
    const program = startNbdfuse(scope, ['--all', ...words(scope), server.uri()]);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(line);
    expect(program.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('refuses a URI that names one export', async () => {
    const scope = createScope();
    mkdirSync(scope.path('mnt'));
    const program = startNbdfuse(scope, ['--all', scope.path('mnt'), 'nbd+unix:///disk?socket=/nowhere']);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(/--all shows every export: remove the export name from the URI/);
  });
});
