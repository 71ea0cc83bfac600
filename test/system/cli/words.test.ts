// Messages about mistakes on the command line, from the program itself.

import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { NBDFUSE } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('qemu-img', 'qemu-nbd', 'nbdkit', 'script');

async function setUp() {
  const scope = createScope();
  await runProgram('qemu-img', 'create', '-q', '-f', 'qcow2', scope.path('disk.qcow2'), '1M');
  mkdirSync(scope.path('dir'));
  writeFileSync(scope.path('notes'), 'notes');
  const words = (line: string) => line.split(' ').map((word) => word.replace(/^@/, `${scope.folder}/`));
  const run = (line: string) => tryProgram('node', NBDFUSE, ...words(line));
  return { scope, run };
}

describe('mistakes on the command line', () => {
  it.each([
    [
      '@dir/a/b @disk.qcow2',
      'mountpoint @dir/a/b: there is no directory @dir/a; make it first: mkdir -p @dir/a',
    ],
    ['@notes/x @disk.qcow2', 'mountpoint @notes/x: @notes is not a directory'],
    [
      '--partitions @dir/new @disk.qcow2',
      'mountpoint @dir/new: --partitions needs a directory; make it first: mkdir -p @dir/new',
    ],
    ['-o no_such @dir @disk.qcow2', '-o no_such: unknown option; nbdfuse --fuse-help lists the known ones'],
  ])('come before the image: %s', async (line, message) => {
    const { scope, run } = await setUp();
    const { status, stderr } = await run(line);
    expect([status, stderr]).toEqual([1, `nbdfuse: ${message.replaceAll('@', `${scope.folder}/`)}\n`]);
  });

  it.each([
    [
      '@disk.qcow2 @dir',
      '@dir is a directory, and @disk.qcow2 is a file: MOUNTPOINT comes first: nbdfuse @dir @disk.qcow2',
    ],
    [
      '--list @disk.qcow2',
      '@disk.qcow2 is a file, and --list shows the exports of a server: mount it, nbdfuse MOUNTPOINT @disk.qcow2',
    ],
    ['--status @none', '@none: no such file or directory'],
  ])('get the next step: %s', async (line, message) => {
    const { scope, run } = await setUp();
    const { status, stderr } = await run(line);
    expect([status, stderr]).toEqual([1, `nbdfuse: ${message.replaceAll('@', `${scope.folder}/`)}\n`]);
  });

  it('-h shows the help', async () => {
    const { run } = await setUp();
    expect(await run('-h')).toEqual(await run('--help'));
  });
});

it('a silent server: a line at a terminal says that nbdfuse waits for it', async () => {
  const { scope } = await setUp();
  const path = scope.path('sock');
  const server = createServer(() => undefined).listen(path);
  scope.add(() => server.close());
  for (const words of [`${scope.path('dir')} --unix ${path}`, `--list --unix ${path}`]) {
    const program = new Program(scope, 'script', ['-qec', `node ${NBDFUSE} ${words}`, '/dev/null']);
    await program.says(new RegExp(`nbdfuse: waiting for the server to answer: unix ${path}\r\n`));
    await program.kill('SIGTERM');
  }
});

/** Starts a server that accepts connections and never answers. */
async function startSilent(scope: Scope, where: string | number): Promise<Server> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => void sockets.add(socket.on('error', () => undefined)));
  scope.add(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(where);
  await once(server, 'listening');
  return server;
}

it('a silent server: so does a line while nbdfuse looks at an image on it', async () => {
  const { scope } = await setUp();
  const path = scope.path('sock');
  await startSilent(scope, path);
  const web = (await startSilent(scope, 0)).address() as AddressInfo;
  const [nbd, url] = [`nbd+unix:///?socket=${path}`, `http://127.0.0.1:${web.port}/disk.img`];
  const dir = scope.path('dir');
  for (const [options, name] of [
    ['', url],
    ['--overlay', nbd],
    ['--partition=1', nbd],
    ['--partitions', nbd],
    ['--print-command --overlay', nbd],
  ]) {
    const line = `node ${NBDFUSE} ${options} ${dir} '${name}'`;
    const program = new Program(scope, 'script', ['-qec', line, '/dev/null']);
    await until(`a line for ${options}`, () =>
      program.stdout.includes(`nbdfuse: waiting for the server to answer: ${name}\r\n`),
    );
    await program.kill('SIGTERM');
  }
}, 60_000);

it('a silent server: without a terminal, only -v says that nbdfuse waits for it', async () => {
  const { scope } = await setUp();
  const path = scope.path('sock');
  const server = createServer(() => undefined).listen(path);
  scope.add(() => server.close());
  const words = [scope.path('dir'), '--unix', path];
  const quiet = new Program(scope, 'node', [NBDFUSE, ...words]);
  const verbose = new Program(scope, 'node', [NBDFUSE, '-v', ...words]);
  await verbose.says(/nbdfuse: waiting for the server to answer: unix /);
  await quiet.kill('SIGTERM');
  await verbose.kill('SIGTERM');
  expect(quiet.stderr).not.toContain('waiting');
});
