import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit');

async function inBackground(scope: Scope, ...words: readonly string[]): Promise<string> {
  await runProgram('mkdir', scope.path('mnt'));
  scope.add(async () => {
    await tryProgram('node', NBDFUSE, '--unmount', scope.path('mnt'));
  });
  // A pipe whose end runProgram waits for: the process in the background must not keep it.
  await runProgram('node', NBDFUSE, '--daemon', '-P', scope.path('pid'), ...words);
  return scope.path('mnt/nbd');
}

describe('--daemon', () => {
  it('returns when the file is there, in a session of its own', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '1M');
    const file = await inBackground(scope, scope.path('mnt'), server.uri());
    expect((await readFile(file)).length).toBe(1024 * 1024);
    const pid = await readFile(scope.path('pid'), 'utf8');
    const session = await runProgram('ps', '-o', 'sid=', '-p', pid);
    expect(session.trim()).toBe(pid);
    process.kill(Number(pid), 'SIGTERM');
    await until('the end', async () => (await tryProgram('ps', '-p', pid)).status !== 0);
    expect((await tryProgram('stat', file)).status).toBe(1);
  });

  it('names the directory that a new file covers in one line, only when it is mounted', async () => {
    const scope = createScope();
    await runProgram('mkdir', scope.path('mnt'));
    await runProgram('touch', scope.path('mnt/other'));
    scope.add(async () => {
      await tryProgram('node', NBDFUSE, '--unmount', scope.path('mnt'));
    });
    const words = ['--daemon', '--log-format=json', scope.path('mnt/disk')];
    const failed = await tryProgram('node', NBDFUSE, ...words, '--unix', scope.path('none'));
    expect(failed.stderr.trimEnd().split('\n')).toEqual([expect.stringContaining('cannot connect')]);
    const { status, stderr } = await tryProgram(
      ...(['node', NBDFUSE, ...words, '[', 'nbdkit', 'memory', '1M', ']'] as const),
    );
    expect(status).toBe(0);
    expect(JSON.parse(stderr)).toMatchObject({
      level: 'info',
      text: expect.stringContaining(`covers the directory ${scope.path('mnt')} and hides its other files`),
    });
    expect(await readdir(scope.path('mnt'))).toEqual(['disk']);
  });

  it('starts a server that ends with the mount', async () => {
    const scope = createScope();
    const file = await inBackground(scope, scope.path('mnt'), '[', 'nbdkit', 'memory', '1M', ']');
    expect((await readFile(file)).length).toBe(1024 * 1024);
    await runProgram('node', NBDFUSE, '--unmount', scope.path('mnt'));
  });

  it('returns the status and the message of a failed start', async () => {
    const scope = createScope();
    await runProgram('mkdir', scope.path('mnt'));
    const words = ['--daemon', scope.path('mnt'), 'nbd+unix:///?socket=/none'];
    expect(await tryProgram('node', NBDFUSE, ...words)).toEqual({
      status: 1,
      stdout: '',
      stderr: 'nbdfuse: cannot connect to socket /none: no such file or directory\n',
    });
  });

  it('ends when it was started by child_process.fork()', async () => {
    const scope = createScope();
    await runProgram('mkdir', scope.path('mnt'));
    const words = [
      '--daemon',
      '-P',
      scope.path('pid'),
      scope.path('mnt'),
      '[',
      'nbdkit',
      'memory',
      '1M',
      ']',
    ];
    const parent = `const { fork } = require('node:child_process');
      const child = fork(process.argv[1], process.argv.slice(2));
      child.on('exit', (status) => console.log('ended', status));`;
    expect(await runProgram('node', '-e', parent, NBDFUSE, ...words)).toBe('ended 0\n');
    expect((await readFile(scope.path('mnt/nbd'))).length).toBe(1024 * 1024);
    await runProgram('node', NBDFUSE, '--unmount', scope.path('mnt'));
  });

  it('excludes --foreground', async () => {
    const { status, stderr } = await tryProgram('node', NBDFUSE, '--daemon', '-f', 'dir', 'nbd://localhost');
    expect([status, stderr]).toEqual([
      1,
      'nbdfuse: --daemon and --foreground cannot be used together; see nbdfuse --help\n',
    ]);
  });
});
