import { describe, expect, it } from 'vitest';
import { createMountpoint, createNamespace, type Form, look, order, useMounter } from './mounting.js';
import type { Who } from './namespace.js';

const start = useMounter();

const CASES: readonly [Who, string, Form, string][] = (['root', 'nobody'] as const).flatMap(
  (who): [Who, string, Form, string][] => [
    [who, 'a directory', 'directory', ''],
    [who, 'a name in a directory', 'directory', '/disk.raw'],
    [who, 'a file', 'regular empty file', ''],
  ],
);

describe.each(CASES)('stale mount of a killed nbdfuse of %s on %s', (who, _, form, name) => {
  it('is removed by the next start, which reports that and mounts', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, form);
    const first = await start(namespace, who, `${path}${name}`);
    await first.kill('SIGKILL');
    expect(await look(namespace, who, first, path)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/not connected/),
    });
    const second = await start(namespace, who, `${path}${name}`);
    expect(second.stderr).toBe('');
    const [line = ''] = second.stdout.split('\n');
    expect(JSON.parse(line)).toMatchObject({
      path,
      notice: `${path}: removed the stale mount that an earlier nbdfuse had left there`,
    });
    expect(await namespace.mounts(path)).toHaveLength(1);
    expect(await order(second, 'unmount')).toBe('done');
  });
});

it('stale mount: several on top of each other are removed, also those of other programs', async () => {
  const namespace = await createNamespace();
  const path = await createMountpoint(namespace, 'root', 'directory');
  const other = namespace.path('root', 'other');
  await namespace.run('root', 'mkdir', other);
  await (await start(namespace, 'root', path)).kill('SIGKILL');
  await (await start(namespace, 'root', other, 'fsname=somebody,subtype=else')).kill('SIGKILL');
  await namespace.run('root', 'mount', '--bind', other, path);
  expect(await namespace.mounts(path)).toHaveLength(2);
  const program = await start(namespace, 'root', path);
  const [line = ''] = program.stdout.split('\n');
  expect(JSON.parse(line).notice).toBe(
    `${path}: removed the stale mount that somebody (fuse.else) had left there; ` +
      `${path}: removed the stale mount that an earlier nbdfuse had left there`,
  );
  expect(await namespace.mounts(path)).toHaveLength(1);
});

it('stale mount: is found behind a symbolic link', async () => {
  const namespace = await createNamespace();
  const path = await createMountpoint(namespace, 'root', 'directory');
  const link = namespace.path('root', 'link');
  await namespace.run('root', 'ln', '-s', path, link);
  await (await start(namespace, 'root', path)).kill('SIGKILL');
  const program = await start(namespace, 'root', link);
  expect(program.stdout).toContain(`"path":"${path}"`);
});

it('stale mount: stays if it is only on a parent directory of the mountpoint', async () => {
  const namespace = await createNamespace();
  const path = await createMountpoint(namespace, 'root', 'directory');
  await (await start(namespace, 'root', path)).kill('SIGKILL');
  const program = await start(namespace, 'root', `${path}/a/b`);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(
    /^mountpoint .*: it is on a file system whose server is gone; unmount that first\n$/,
  );
  expect(await namespace.mounts(path)).toHaveLength(1);
});

describe('mountpoint in a frozen file system', () => {
  it.each<[Who, string]>([
    ['root', ''],
    ['nobody', '/disk.raw'],
  ])('makes %s fail at once (%s)', async (who, name) => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, who, 'directory');
    const first = await start(namespace, who, path);
    process.kill(first.pid, 'SIGSTOP');
    const program = await start(namespace, who, `${path}${name}`);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toBe(
      `mountpoint ${path}${name}: nbdfuse (fuse.nbdfuse), which is mounted at ${path}, does not answer; unmount it first: fusermount3 -u -z ${path}\n`,
    );
    expect(await namespace.mounts(path)).toHaveLength(1);
  });
});

describe('mountpoint in a live file system', () => {
  it.each<[Who, string]>([
    ['root', ''],
    ['root', '/disk.raw'],
    ['nobody', ''],
    ['nobody', '/disk.raw'],
  ])('refuses %s a second mount (%s)', async (who, name) => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, 'nobody', 'directory');
    await start(namespace, 'nobody', path);
    const program = await start(namespace, who, `${path}${name}`);
    expect(await program.ended).toBe(1);
    expect(program.stderr).toBe(
      `mountpoint ${path}${name}: nbdfuse (fuse.nbdfuse) is mounted there already; unmount it first: nbdfuse --unmount ${path}\n`,
    );
    expect(await namespace.mounts(path)).toHaveLength(1);
  });
});
