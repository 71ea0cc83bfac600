import { readFile, stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { tryProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'setpriv');
requireRoot();

const MEMORY = ['[', 'nbdkit', 'memory', '1M', ']'];
const AS_NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups'];

/** The line of a mount in this process's table: device, path, type, options. */
async function mountLine(path: string): Promise<string[]> {
  const table = await readFile('/proc/self/mounts', 'utf8');
  const line = table.split('\n').find((text) => text.split(' ')[1] === path);
  return line?.split(' ') ?? [];
}

it.each(BACKENDS)(
  'allow_other: lets other users read, and without it nobody else can, by %s',
  async (_, backend) => {
    const scope = createScope();
    const alone = await mountDisk(scope, { server: MEMORY, options: backend, name: 'alone' });
    const options = [...backend, '-o', 'allow_other'];
    const shared = await mountDisk(scope, { server: MEMORY, options, name: 'shared' });
    const readAsNobody = (file: string) => tryProgram('setpriv', ...AS_NOBODY, 'head', '-c', '10', file);
    expect((await readAsNobody(alone.file)).stderr).toContain('Permission denied');
    expect(await readAsNobody(shared.file)).toMatchObject({ status: 0, stdout: '\0'.repeat(10) });
  },
);

it.each(BACKENDS)(
  'mount options: -o sets the owner, the group and the mode of the files, by %s',
  async (_, backend) => {
    const scope = createScope();
    const options = [...backend, '-o', 'uid=1234,gid=5678', '-o', 'umask=077'];
    const disk = await mountDisk(scope, { server: MEMORY, options });
    const found = await stat(disk.file);
    expect([found.uid, found.gid, found.mode & 0o777]).toEqual([1234, 5678, 0o600]);
  },
);

it('mount table: shows nbdfuse, or the names that -o sets', async () => {
  const scope = createScope();
  const plain = await mountDisk(scope, { server: MEMORY, name: 'plain' });
  expect((await mountLine(plain.mountpoint)).slice(0, 3)).toEqual([
    'nbdfuse',
    plain.mountpoint,
    'fuse.nbdfuse',
  ]);
  const options = ['-o', 'fsname=source,subtype=kind,noexec,noatime,max_read=65536'];
  const named = await mountDisk(scope, { server: MEMORY, options, name: 'named' });
  const [source, , type, flags = ''] = await mountLine(named.mountpoint);
  expect([source, type]).toEqual(['source', 'fuse.kind']);
  for (const flag of ['noexec', 'noatime', 'max_read=65536']) expect(flags.split(',')).toContain(flag);
});

it.each(['allow_other,default_permissions', 'kernel_cache', 'auto_cache', 'nonempty', 'nosuid,nodev', 'ro'])(
  'mount options: -o %s mounts',
  async (words) => {
    const scope = createScope();
    const disk = await mountDisk(scope, { server: MEMORY, options: ['-o', words] });
    expect((await stat(disk.file)).size).toBe(1024 * 1024);
    expect(await disk.stop()).toBe(0);
    expect(disk.stderr).toBe('');
  },
);

it('mount options: an unknown one fails, and the error says where the known ones are', async () => {
  const scope = createScope();
  const failure = await mountDisk(scope, { server: MEMORY, options: ['-o', 'ro,allow_others'] }).catch(
    String,
  );
  expect(failure).toMatch(
    /^nbdfuse: -o allow_others: unknown option; nbdfuse --fuse-help lists the known ones$/m,
  );
});
