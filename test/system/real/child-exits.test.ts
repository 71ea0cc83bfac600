import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';
import { withBackends } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow, processesOf } from '../../support/run/scope.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'qemu-nbd');

/** Folders of sockets for socket activation. */
function socketFolders(pid: number): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith(`nbdfuse-${pid}`));
}

/** The server that an nbdfuse of this scope has started. */
async function serverOf(scope: Scope, name: string): Promise<number> {
  const found = (await processesOf(scope.folder)).filter(({ command }) =>
    new RegExp(`^\\S*${name} `).test(command),
  );
  expect(found).toHaveLength(1);
  return found[0].pid;
}

it.each<[string, string[], RegExp]>([
  [
    'cannot open its file',
    ['[', 'qemu-nbd', '/nonexistent.qcow2', ']'],
    /exited with status 1: .*nonexistent/,
  ],
  [
    'knows no such plugin',
    ['[', 'nbdkit', 'no-such-plugin', ']'],
    /nbdkit exited with status 1: .*no-such-plugin/,
  ],
  [
    'knows no such plugin, on its standard input',
    ['--command', 'nbdkit', '-s', 'no-such-plugin'],
    /nbdkit exited with status 1: .*no-such-plugin/,
  ],
  ['exits without a word', ['--command', 'true'], /true exited with status 0/],
  ['is not there', ['[', 'no-such-program', ']'], /no-such-program: no such program/],
])('child: one line says that the server %s', async (_, server, message) => {
  const scope = createScope();
  const failure = await mountDisk(scope, { server }).catch((error: Error) => error.message);
  expect(failure).toMatch(message);
  expect(String(failure).match(/^nbdfuse: /gm)).toHaveLength(1);
  expect(await mountsBelow(scope.folder)).toEqual([]);
  expect(await processesOf(scope.folder)).toEqual([]);
});

const ENDS = [
  ['killed', 'SIGKILL', /qemu-nbd was killed by SIGKILL/],
  ['ended by a signal', 'SIGTERM', /qemu-nbd exited with status 0/],
] as const;

it.each(
  withBackends(ENDS).map(([end, signal, message, name, options]) => {
    return [end, name, signal, message, options] as const;
  }),
)(
  'child: one line says that the server was %s, reads fail with EIO, and the status is 1, by %s',
  async (_, _name, signal, message, options) => {
    const scope = createScope();
    // qemu-nbd ends at once; nbdkit would wait for the end of its client.
    const image = scope.path('image');
    await writeFile(image, Buffer.alloc(1 << 20));
    const disk = await mountDisk(scope, { server: ['[', 'qemu-nbd', '-f', 'raw', image, ']'], options });
    process.kill(await serverOf(scope, 'qemu-nbd'), signal);
    await disk.program.says(message);
    expect(disk.stderr.match(/^nbdfuse: /gm)).toHaveLength(1);
    await expect(readAt(disk.file, 65_536, 4096)).rejects.toThrow('EIO');
    const zombies = await zombiesOf(disk.program.pid);
    expect(zombies).toEqual([]);
    await runProgram('umount', disk.mountpoint);
    expect(await disk.program.ended).toBe(1);
    expect(socketFolders(disk.program.pid)).toEqual([]);
  },
);

/** Children of a process that have ended and were not reaped. */
async function zombiesOf(pid: number): Promise<string[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const found: string[] = [];
  for (const child of children.split(' ').filter((word) => word !== '')) {
    const text = await readFile(`/proc/${child}/stat`, 'utf8').catch(() => '');
    if (/\) Z /.test(text)) found.push(text);
  }
  return found;
}

it('child: a server that nbdfuse started ends even when nbdfuse is killed with SIGKILL', async () => {
  const scope = createScope();
  const disk = await mountDisk(scope, { server: ['--command', 'nbdkit', '-s', 'memory', '1M'] });
  const server = await serverOf(scope, 'nbdkit');
  await disk.stop('SIGKILL');
  await until('the end of nbdkit', () =>
    readFile(`/proc/${server}/stat`, 'utf8').then(
      () => false,
      () => true,
    ),
  );
  await runProgram('umount', disk.mountpoint);
});
