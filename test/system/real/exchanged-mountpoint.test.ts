// A mountpoint in a directory that another user may change: nbdfuse neither mounts over nor unmounts an
// object that appears there while it connects, or later.

import { existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { type MountRequest, mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser, giveToNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { mountsBelow } from '../../support/run/scope.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'mount', 'umount');
requireRoot();

/** A server that delays its handshake: nbdfuse has opened the mountpoint and waits. */
function heldServer(scope: Scope) {
  const [begun, released] = ['begun', 'released'].map((name) => {
    const path = scope.path(name);
    writeFileSync(path, '');
    giveToNormalUser(path);
    return path;
  });
  const script = 'echo x >"$0"; until [ -s "$1" ]; do sleep 0.02; done; exec nbdkit memory 64K';
  return {
    words: ['[', 'sh', '-c', script, begun, released, ']'],
    whenBegun: () => until('the server to start', () => readFileSync(begun, 'utf8') !== ''),
    release: () => writeFileSync(released, 'x'),
  };
}

const QUICK = ['[', 'nbdkit', 'memory', '64K', ']'];

/** Paths that the kernel has shown as mountpoints below a folder, until `stop`. */
function watchMounts(folder: string) {
  const seen = new Set<string>();
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      for (const path of await mountsBelow(folder)) seen.add(path);
      await setTimeout(1);
    }
  })();
  return {
    stop: async (): Promise<readonly string[]> => {
      isOver = true;
      await watching;
      return [...seen];
    },
  };
}

const BACKENDS: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['root', [], []],
  ['root, fuse-native', [], ['--fuse-backend=fuse-native']],
  ['a normal user', AS_NORMAL_USER, []],
];

/** A folder with a mountpoint in it, and a second mountpoint of the same kind for the exchange. */
function prepare(scope: Scope, kind: 'directory' | 'file') {
  admitNormalUser(scope);
  const make = (name: string): string => {
    const path = scope.path(name);
    if (kind === 'file') writeFileSync(path, 'own');
    else mkdirSync(path);
    giveToNormalUser(path);
    return path;
  };
  return { mountpoint: make('mnt'), other: make('other') };
}

const EXCHANGES = BACKENDS.flatMap(([who, prefix, options]) =>
  (['directory', 'file'] as const)
    .filter((kind) => kind === 'directory' || options.length === 0)
    .map((kind) => [who, kind, prefix, options] as const),
);

it.each(EXCHANGES)(
  'exchanged mountpoint: %s, a %s: nbdfuse does not follow a symbolic link that appears during the handshake',
  async (_, kind, prefix, options) => {
    const scope = createScope();
    const { mountpoint, other } = prepare(scope, kind);
    const watch = watchMounts(scope.folder);
    const server = heldServer(scope);
    const program = startNbdfuse(scope, [...options, mountpoint, ...server.words], { prefix });
    await server.whenBegun();
    renameSync(mountpoint, scope.path('gone'));
    symlinkSync(other, mountpoint);
    server.release();
    expect(await program.ended).toBe(1);
    expect(program.stderr).toMatch(
      /^nbdfuse: mountpoint .*mnt: it was replaced or mounted over in the meantime; use a directory that only you can change\n$/m,
    );
    expect(await watch.stop()).toEqual([]);
    if (kind === 'file') expect(readFileSync(other, 'utf8')).toBe('own');
  },
);

it('exchanged mountpoint: a file system mounted there during the handshake stays on top', async () => {
  const scope = createScope();
  const { mountpoint } = prepare(scope, 'directory');
  const server = heldServer(scope);
  const program = startNbdfuse(scope, [mountpoint, ...server.words]);
  await server.whenBegun();
  await runProgram('mount', '-t', 'tmpfs', 'tmpfs', mountpoint);
  server.release();
  scope.add(() => runProgram('umount', mountpoint).then(() => undefined));
  expect(await program.ended).toBe(1);
  expect(program.stderr).toContain('it was replaced or mounted over in the meantime');
  expect(await mountsBelow(scope.folder)).toEqual([mountpoint]);
});

/** Two directories with a mount at the same name in each; then the first takes the place of the second. */
async function exchangeFolders(scope: Scope, request: Partial<MountRequest>) {
  for (const name of ['mine', 'theirs', 'theirs/mnt']) mkdirSync(scope.path(name));
  const theirs = scope.path('theirs', 'mnt');
  await runProgram('mount', '-t', 'tmpfs', 'tmpfs', theirs);
  scope.add(() => runProgram('umount', theirs).then(() => undefined));
  mkdirSync(scope.path('mine.run'));
  const disk = await mountDisk(scope, { server: QUICK, name: 'mine/mnt', ...request });
  const pidfile = readFileSync(disk.pidfile, 'utf8');
  renameSync(scope.path('mine'), scope.path('moved'));
  symlinkSync('theirs', scope.path('mine'));
  expect((await mountsBelow(scope.folder)).sort()).toEqual([scope.path('moved', 'mnt'), theirs].sort());
  return { disk, theirs, pidfile };
}

it.each([
  ['the kernel backend', []],
  ['fuse-native', ['--fuse-backend=fuse-native']],
])('moved mount: %s unmounts its own mount, although its path leads elsewhere', async (_, options) => {
  const scope = createScope();
  const { disk, theirs } = await exchangeFolders(scope, { options });
  expect(await disk.stop()).toBe(0);
  expect(await mountsBelow(scope.folder)).toEqual([theirs]);
});

it('moved mount: auto_unmount removes its own mount, although its path leads elsewhere', async () => {
  const scope = createScope();
  const { disk, theirs } = await exchangeFolders(scope, { options: ['-o', 'auto_unmount'] });
  await disk.stop('SIGKILL');
  await until('the unmounting', async () => (await mountsBelow(scope.folder)).length === 1);
  expect(await mountsBelow(scope.folder)).toEqual([theirs]);
});

it('auto_unmount: removes a mount whose path has spaces and percent signs', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, {
    server: QUICK,
    options: ['-o', 'auto_unmount'],
    name: '100 %s \\ #1',
  });
  await disk.stop('SIGKILL');
  await until('the unmounting', async () => (await mountsBelow(scope.folder)).length === 0);
});

it('--unmount: does not unmount a file system that only contains the path', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: QUICK });
  const inside = startNbdfuse(scope, ['--unmount', `${disk.file}/deeper`]);
  expect(await inside.ended).toBe(1);
  expect(inside.stderr).toMatch(/^nbdfuse: no nbdfuse file system is mounted at .*\n$/);
  expect(await mountsBelow(scope.folder)).toEqual([disk.mountpoint]);
  expect(await startNbdfuse(scope, ['--unmount', disk.file]).ended).toBe(0);
  expect(existsSync(disk.file)).toBe(false);
});
