// --list-mounts: the mounts of this user, or for root those of every user.

import { describe, expect, it } from 'vitest';
import { filesIn } from '../../../src/cli/commands/all-mounts.js';
import { typesIn } from '../../../src/mount/renamed.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { AS_NORMAL_USER, admitNormalUser } from '../../support/run/normal-user.js';
import { requirePrograms } from '../../support/run/requires.js';
import { STATUS } from '../../unit/cli/status-sample.js';

requirePrograms('nbdkit', 'setpriv');

const MEMORY = ['[', 'nbdkit', 'memory', '1M', ']'];
const [SETPRIV, ...WORDS] = AS_NORMAL_USER;

const list = (...options: readonly string[]): Promise<string> =>
  runProgram('node', NBDFUSE, '--list-mounts', ...options);

/** The lines about mounts of this scope: other tests have mounts, too. */
const ownLines = (scope: Scope, text: string): readonly string[] =>
  text.split('\n').filter((line) => line.includes(scope.folder));

describe('--list-mounts', () => {
  it('shows root the mounts of every user, and each user their own', async () => {
    const scope = createScope();
    admitNormalUser(scope);
    await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('theirs'));
    const ours = await mountDisk(scope, { server: MEMORY, name: 'ours' });
    const theirs = await mountDisk(scope, { server: MEMORY, name: 'theirs', prefix: AS_NORMAL_USER });
    const line = (file: string): string => `${file}  connected  socket-activation nbdkit memory 1M`;
    expect(ownLines(scope, await list())).toEqual([line(ours.file), line(theirs.file)]);
    const seen = await runProgram(SETPRIV, ...WORDS, 'node', NBDFUSE, '--list-mounts');
    expect(ownLines(scope, seen)).toEqual([line(theirs.file)]);
    const metrics = ownLines(scope, await list('--format=openmetrics'));
    for (const { mountpoint } of [ours, theirs]) {
      expect(metrics).toContain(`nbdfuse_up{mountpoint="${mountpoint}"} 1`);
      expect(metrics).toContain(`nbdfuse_connections{mountpoint="${mountpoint}",file="nbd",export=""} 1`);
    }
    const texts = await list('--status');
    expect(texts).toContain(`${ours.file}\n  server       socket-activation`);
    const { files } = JSON.parse(await list('--json')) as { files: { path: string }[] };
    expect(files.map(({ path }) => path)).toEqual(expect.arrayContaining([ours.file, theirs.file]));
  });

  it('shows mounts of every type and source that -o subtype= and fsname= give them', async () => {
    const scope = createScope();
    admitNormalUser(scope);
    await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('theirs'));
    const options = ['-o', 'fsname=somewhere,subtype=sshfs'];
    const ours = await mountDisk(scope, { server: MEMORY, name: 'ours', options });
    const request = { server: MEMORY, name: 'theirs', prefix: AS_NORMAL_USER, options };
    const theirs = await mountDisk(scope, request);
    const line = (file: string): string => `${file}  connected  socket-activation nbdkit memory 1M`;
    expect(ownLines(scope, await list())).toEqual([line(ours.file), line(theirs.file)]);
    const seen = await runProgram(SETPRIV, ...WORDS, 'node', NBDFUSE, '--list-mounts');
    expect(ownLines(scope, seen)).toEqual([line(theirs.file)]);
  });

  it('shows a mount that does not answer, of this user and of another one', async () => {
    const scope = createScope();
    admitNormalUser(scope);
    await runProgram(SETPRIV, ...WORDS, 'mkdir', scope.path('theirs'));
    const disks = [
      await mountDisk(scope, { server: MEMORY, name: 'ours' }),
      await mountDisk(scope, { server: MEMORY, name: 'theirs', prefix: AS_NORMAL_USER }),
    ];
    for (const { program } of disks) program.child.kill('SIGSTOP');
    const [summary, metrics] = await Promise.all([list(), list('--format=openmetrics')]);
    for (const { program } of disks) program.child.kill('SIGCONT');
    const [ours, theirs] = disks.map(({ mountpoint }) => mountpoint);
    expect(ownLines(scope, summary)).toEqual([
      expect.stringMatching(/\/ours {2}no status: .*does not answer in 3 s/),
      `${theirs}  no status: its user cannot read its status`,
    ]);
    expect(ownLines(scope, metrics)).toEqual([
      `nbdfuse_up{mountpoint="${ours}"} 0`,
      `nbdfuse_up{mountpoint="${theirs}"} 0`,
    ]);
  });
});

it('--list-mounts: finds the types in a command line, where the kernel shows no devices', () => {
  expect(typesIn(['node', 'nbdfuse', '-o', 'ro,subtype=a', '-osubtype=b', '-o', 'subtype=c.d,ro'])).toEqual([
    'fuse.a',
    'fuse.b',
    'fuse.c.d',
  ]);
  expect(typesIn(['nbdfuse -o subtype=a dir https://…@host'])).toEqual(['fuse.a']);
  expect(typesIn(['node', 'nbdfuse', 'dir', 'nbd://host/mysubtype=a'])).toEqual([]);
});

describe("another user's status", () => {
  it('is taken only if it has the form of a status', () => {
    const text = (...files: readonly unknown[]): string => JSON.stringify({ files });
    expect(filesIn(text({ path: '/d/nbd', ...STATUS }))).toEqual([
      { path: '/d/nbd', status: expect.objectContaining(STATUS) },
    ]);
    for (const bad of [
      '',
      'null',
      '[]',
      '{"files":{}}',
      text(7),
      text({ path: 1, ...STATUS }),
      text({ path: '' }),
    ])
      expect(filesIn(bad)).toBeUndefined();
  });
});
