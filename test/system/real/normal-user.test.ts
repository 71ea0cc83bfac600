import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { withBackends } from '../../support/backends.js';
import { createScope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { type MountpointForm, mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser, giveToNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';

requirePrograms('nbdkit');

const SIZE = 4 * 1024 * 1024;
const [SETPRIV, ...WORDS] = AS_NORMAL_USER;

/** libfuse 2 mounts over directories only. */
const FORMS: readonly (readonly [MountpointForm, string, readonly string[]])[] = [
  ['existing file', 'the kernel backend', []],
  ...withBackends([['directory'], ['file name']] as const),
];

it.each(FORMS)(
  'normal user: mounts, writes and unmounts, on a mountpoint of the form %s, by %s',
  async (form, _, options) => {
    const scope = createScope();
    admitNormalUser(scope);
    const backing = scope.path('disk');
    await writeFile(backing, '');
    await truncate(backing, SIZE);
    giveToNormalUser(backing);
    const server = ['[', 'nbdkit', 'file', backing, ']'];
    const mountpoint = scope.path('mnt');
    await runProgram(SETPRIV, ...WORDS, form === 'existing file' ? 'touch' : 'mkdir', mountpoint);
    const disk = await mountDisk(scope, { server, form, options, prefix: AS_NORMAL_USER });
    const source = scope.path('source');
    await writeFile(source, Buffer.alloc(SIZE, 'of a normal user; '), { mode: 0o644 });
    await runProgram(SETPRIV, ...WORDS, 'dd', `if=${source}`, `of=${disk.file}`, 'bs=1M', 'conv=notrunc');
    await runProgram(SETPRIV, ...WORDS, 'cmp', source, disk.file);
    expect(await runProgram(SETPRIV, ...WORDS, 'stat', '-c', '%u %a %s', disk.file)).toBe(
      `65534 644 ${SIZE}\n`,
    );
    await expect(stat(disk.file)).rejects.toThrow('EACCES');
    await runProgram(SETPRIV, ...WORDS, 'fusermount3', '-u', disk.mountpoint);
    expect(await disk.program.ended).toBe(0);
    expect(disk.stderr).toBe('');
    expect((await readFile(backing)).equals(await readFile(source))).toBe(true);
    expect(await processesOf(scope.folder)).toEqual([]);
  },
);

it.each(withBackends([['SIGTERM'], ['SIGINT']] as const))(
  'normal user: unmounts in order on %s, by %s',
  async (signal, _, options) => {
    const scope = createScope();
    admitNormalUser(scope);
    await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('mnt'));
    const disk = await mountDisk(scope, {
      server: ['[', 'nbdkit', 'memory', '1M', ']'],
      options,
      prefix: AS_NORMAL_USER,
    });
    expect(await disk.stop(signal)).toBe(0);
    expect(disk.stderr).toBe('');
    expect(await mountsBelow(scope.folder)).toEqual([]);
  },
);

it('normal user: the error for allow_other says what it needs', async () => {
  const scope = createScope();
  admitNormalUser(scope);
  const allowed = /^user_allow_other/m.test(await readFile('/etc/fuse.conf', 'utf8').catch(() => ''));
  await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('mnt'));
  const request = { server: ['[', 'nbdkit', 'memory', '1M', ']'], options: ['-o', 'allow_other'] };
  const outcome = mountDisk(scope, { ...request, prefix: AS_NORMAL_USER });
  if (allowed) expect((await stat((await outcome).file)).size).toBe(1024 * 1024);
  else await expect(outcome).rejects.toThrow(/^nbdfuse: .*user_allow_other.*\/etc\/fuse\.conf/m);
});

it('normal user: removes a stale mount of his own', async () => {
  const scope = createScope();
  admitNormalUser(scope);
  await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('mnt'));
  const request = { server: ['--command', 'nbdkit', '-s', 'memory', '1M'], prefix: AS_NORMAL_USER };
  const first = await mountDisk(scope, request);
  await first.stop('SIGKILL');
  const second = await mountDisk(scope, request);
  expect(second.stderr).toMatch(/removed the stale mount/);
  const { status } = await tryProgram(SETPRIV, ...WORDS, 'head', '-c', '10', second.file);
  expect(status).toBe(0);
});
