import { describe, expect, it } from 'vitest';
import { createMountpoint, createNamespace, useMounter } from './mounting.js';
import type { Namespace, Who } from './namespace.js';

const start = useMounter();

/** The message of a mounter that must fail. */
async function complaint(
  namespace: Namespace,
  who: Who,
  path: string,
  options?: string,
  env?: NodeJS.ProcessEnv,
): Promise<string> {
  const program = await start(namespace, who, path, options, env);
  expect(await program.ended).toBe(1);
  expect(program.stdout).toBe('');
  expect(await namespace.mounts(path)).toEqual([]);
  return program.stderr;
}

describe('failed mount', () => {
  it.each(['allow_other', 'allow_root'])('names /etc/fuse.conf when it forbids %s', async (option) => {
    const namespace = await createNamespace('touch "$1/conf" && mount --bind "$1/conf" /etc/fuse.conf');
    const path = await createMountpoint(namespace, 'nobody', 'directory');
    expect(await complaint(namespace, 'nobody', path, option)).toBe(
      `cannot mount ${path}: normal users may not use allow_other and allow_root; as root, add the line user_allow_other to /etc/fuse.conf\n`,
    );
  });

  it('reports how to install a missing fusermount3', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, 'nobody', 'directory');
    expect(await complaint(namespace, 'nobody', path, '', { PATH: '/nonexistent' })).toBe(
      `cannot mount ${path}: there is no fusermount3; install it: apt-get install fuse3\n`,
    );
  });

  it.each<Who>(['root', 'nobody'])(
    'reports to %s that /dev/fuse is missing, and which module to load',
    async (who) => {
      const hide = 'mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3';
      const namespace = await createNamespace(hide);
      const path = await createMountpoint(namespace, who, 'directory');
      expect(await complaint(namespace, who, path)).toBe(
        'cannot open /dev/fuse: No such file or directory; load the module: modprobe fuse\n',
      );
    },
  );

  it('reports how to let users open /dev/fuse', async () => {
    const namespace = await createNamespace('chmod 600 /dev/fuse');
    const path = await createMountpoint(namespace, 'nobody', 'directory');
    expect(await complaint(namespace, 'nobody', path)).toMatch(
      /^cannot mount .*\/dev\/fuse.*Permission denied.*chmod/,
    );
  });

  it('names the capability SYS_ADMIN to root in a container', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, 'root', 'directory');
    expect(await complaint(namespace, 'root without SYS_ADMIN', path)).toBe(
      `cannot mount ${path}: Operation not permitted; in a container, this needs the capability SYS_ADMIN\n`,
    );
  });

  it('reports to a user that the directory belongs to somebody else', async () => {
    const namespace = await createNamespace();
    const path = await createMountpoint(namespace, 'root', 'directory');
    expect(await complaint(namespace, 'nobody', path)).toMatch(/^cannot mount .*: .*no write access/);
  });
});

it('allow_other: lets other users in where /etc/fuse.conf permits it', async () => {
  const conf = 'echo user_allow_other >"$1/conf" && mount --bind "$1/conf" /etc/fuse.conf';
  const namespace = await createNamespace(conf);
  const path = await createMountpoint(namespace, 'nobody', 'directory');
  await start(namespace, 'nobody', path, 'allow_other');
  expect(await namespace.run('root', 'stat', '--format=%F', path)).toMatchObject({ stdout: 'directory\n' });
});

it('allow_other: keeps other users out otherwise, root included', async () => {
  const namespace = await createNamespace();
  const path = await createMountpoint(namespace, 'nobody', 'directory');
  await start(namespace, 'nobody', path);
  expect(await namespace.run('root', 'stat', path)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/Permission denied/),
  });
});
