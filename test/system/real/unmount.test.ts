import { existsSync } from 'node:fs';
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS, withBackends } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';

requirePrograms('nbdkit', 'fusermount3', 'mount', 'umount', 'unshare', 'python3');

const SIZE = 8 * 1024 * 1024;
const CONTENT = Buffer.alloc(SIZE, 'pending until the end; ');

const WAYS: Readonly<Record<string, (disk: MountedDisk) => unknown>> = {
  'fusermount3 -u': (disk) => runProgram('fusermount3', '-u', disk.mountpoint),
  umount: (disk) => runProgram('umount', disk.mountpoint),
  SIGINT: (disk) => disk.program.child.kill('SIGINT'),
  SIGTERM: (disk) => disk.program.child.kill('SIGTERM'),
  SIGHUP: (disk) => disk.program.child.kill('SIGHUP'),
};

async function createDisk(scope: Scope): Promise<string> {
  const disk = scope.path('disk');
  await writeFile(disk, '');
  await truncate(disk, SIZE);
  return disk;
}

it.each(withBackends(Object.keys(WAYS).map((way) => [way] as const)))(
  'unmount: sends pending writes and leaves nothing behind after %s, by %s',
  async (way, _, options) => {
    const scope = createScope();
    const backing = await createDisk(scope);
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'file', backing, ']'], options });
    const handle = await open(disk.file, 'r+');
    await handle.write(CONTENT);
    await handle.close();
    await WAYS[way](disk);
    expect(await disk.program.ended).toBe(0);
    expect(disk.stderr).toBe('');
    expect((await readFile(backing)).equals(CONTENT)).toBe(true);
    expect(existsSync(disk.pidfile)).toBe(false);
    expect(await mountsBelow(scope.folder)).toEqual([]);
    expect(await processesOf(scope.folder)).toEqual([]);
  },
);

it.each(BACKENDS)(
  'unmount: sends the dirty pages of a shared mapping to the server, by %s',
  async (_, options) => {
    const scope = createScope();
    const backing = await createDisk(scope);
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'file', backing, ']'], options });
    const words = [
      '--ioengine=mmap',
      '--rw=write',
      '--bs=64k',
      '--size=8M',
      '--verify=crc32c',
      '--do_verify=0',
      '--verify_state_save=0',
    ];
    await runProgram('fio', '--name=job', '--allow_file_create=0', `--filename=${disk.file}`, ...words);
    const written = await readAt(disk.file, 0, SIZE);
    expect(await disk.stop()).toBe(0);
    expect((await readFile(backing)).equals(written)).toBe(true);
  },
);

it.each(BACKENDS)(
  'unmount: after SIGKILL the child ends, and the next start removes the mount, by %s',
  async (_, options) => {
    const scope = createScope();
    const backing = await createDisk(scope);
    const server = ['[', 'nbdkit', 'file', backing, ']'];
    const first = await mountDisk(scope, { server, options });
    expect(await first.stop('SIGKILL')).toBe('SIGKILL');
    await expect(stat(first.file)).rejects.toThrow('ENOTCONN');
    expect(existsSync(first.pidfile)).toBe(true);
    const second = await mountDisk(scope, { server, options, program: { env: { LANG: 'C' } } });
    expect(second.stderr).toMatch(/^nbdfuse: .*mnt.*removed the stale mount/);
    expect((await stat(second.file)).size).toBe(SIZE);
    const nbdkits = (await processesOf(scope.folder)).filter(({ command }) => /^\S*nbdkit /.test(command));
    expect(nbdkits).toHaveLength(1);
    expect(await second.stop()).toBe(0);
  },
);

it.each(['file name', 'existing file'] as const)(
  'unmount: removes a stale mount of the form %s',
  async (form) => {
    const scope = createScope();
    const server = [(await startNbdkit(scope, 'memory', '8M')).uri()];
    const first = await mountDisk(scope, { server, form });
    await first.stop('SIGKILL');
    const second = await mountDisk(scope, { server, form });
    expect(second.stderr).toMatch(/removed the stale mount/);
    expect((await stat(second.file)).size).toBe(SIZE);
    expect(await second.stop()).toBe(0);
  },
);

it.each(BACKENDS)(
  'unmount: detaches a disk in use, with its writes at the server, and reports that, by %s',
  async (_, options) => {
    const scope = createScope();
    const backing = await createDisk(scope);
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'file', backing, ']'], options });
    const handle = await open(disk.file, 'r+');
    scope.add(() => handle.close().catch(() => undefined));
    await handle.write(CONTENT);
    expect(await disk.stop()).toBe(0);
    expect(disk.program.stderr).toMatch(/^nbdfuse: .* is in use: /);
    expect((await readFile(backing)).equals(CONTENT)).toBe(true);
  },
);

/** Writes without closing the file, says so, and ends with its standard input. */
const WRITER = `
import os, sys
file = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(file, b'x' * (1 << 20), 0)
print('written', flush=True)
sys.stdin.read()`;

it.each(['unshare -m --propagation private', 'bind mount'])(
  'unmount: sends pending writes of a program at another place of the mount, after SIGTERM: %s',
  async (way) => {
    const scope = createScope();
    const backing = await createDisk(scope);
    const disk = await mountDisk(scope, { server: ['[', 'nbdkit', 'file', backing, ']'] });
    const other = scope.path('other');
    await runProgram('mkdir', other);
    const words = ['python3', '-c', WRITER];
    const [first, ...rest] = way.startsWith('unshare')
      ? [...way.split(' '), ...words, disk.file]
      : [...words, `${other}/nbd`];
    if (way === 'bind mount') {
      await runProgram('mount', '--bind', disk.mountpoint, other);
      scope.add(() => runProgram('umount', '-i', '-l', other));
    }
    const writer = new Program(scope, first, rest, { stdio: ['pipe', 'pipe', 'pipe'] });
    await writer.says(/written/);
    expect((await readFile(backing)).includes('x')).toBe(false);
    expect(await disk.stop()).toBe(0);
    expect(disk.program.stderr).toBe(
      `nbdfuse: ${disk.mountpoint} is in use: nbdfuse detached it after all writes had reached the server\n`,
    );
    expect((await readFile(backing)).subarray(0, 1 << 20).equals(Buffer.alloc(1 << 20, 'x'))).toBe(true);
    writer.child.stdin?.end();
    expect(await writer.ended).toBe(0);
  },
);
