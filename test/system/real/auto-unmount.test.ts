import { stat } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { mountsBelow } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'fusermount3', 'setpriv');
requireRoot();

const OPTIONS = ['-o', 'auto_unmount'];

it.each([
  ['root', []],
  ['a normal user', AS_NORMAL_USER],
])('auto_unmount: unmounts when nbdfuse of %s is killed with SIGKILL', async (_, prefix) => {
  const scope = createScope();
  admitNormalUser(scope);
  const { socket, uri } = await startNbdkit(scope, 'memory', '1M');
  await runProgram('chmod', '666', socket);
  await runProgram('setpriv', ...AS_NORMAL_USER.slice(1), 'mkdir', scope.path('mnt'));
  const disk = await mountDisk(scope, { server: [uri()], options: OPTIONS, prefix });
  expect(await mountsBelow(scope.folder)).toEqual([disk.mountpoint]);
  // Attributes in the kernel's cache must not count as a working mount.
  const look = prefix.length === 0 ? [] : AS_NORMAL_USER;
  await runProgram(...([...look, 'ls', '-l', disk.mountpoint] as [string, ...string[]]));
  await disk.stop('SIGKILL');
  await until('the unmounting', async () => (await mountsBelow(scope.folder)).length === 0);
  const again = await mountDisk(scope, { server: [uri()], options: OPTIONS, prefix });
  expect(again.stderr).toBe('');
  expect(await again.stop()).toBe(0);
});

it.each(['file name', 'existing file'] as const)('auto_unmount: unmounts in order, form %s', async (form) => {
  const scope = createScope();
  const request = { server: ['[', 'nbdkit', 'memory', '1M', ']'], options: OPTIONS, form };
  const disk = await mountDisk(scope, request);
  expect((await stat(disk.file)).size).toBe(1024 * 1024);
  expect(await disk.stop()).toBe(0);
  expect(disk.stderr).toBe('');
  expect(await mountsBelow(scope.folder)).toEqual([]);
});
