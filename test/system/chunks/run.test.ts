// The command that the chunk server runs above it.

import { mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { NbdClient, openServer } from '../../../src/index.js';
import { chunkProgram, chunkProgramBelow } from '../../support/chunk-program.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'qemu-nbd');

/** The library, built, for a process that the test kills. */
const LIBRARY = fileURLToPath(new URL('../../../dist/index.js', import.meta.url));

/** qemu-nbd above the chunk server, as for a compressed qcow2 image. */
const QEMU = 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -r -f raw "nbd+unix:///?socket=$unixsocket"';

/** A folder for temporary files that must be empty at the end. */
function temporaryFolder(scope: Scope) {
  const folder = scope.path('tmp');
  mkdirSync(folder);
  return { env: { TMPDIR: folder }, isEmpty: () => readdirSync(folder).length === 0 };
}

/** A chunk server with a command above it, and descriptor 3 for that. */
function startBelow(scope: Scope, command: string, env: NodeJS.ProcessEnv): Program {
  const [file, ...args] = chunkProgramBelow(command);
  return new Program(scope, file, args, { env, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
}

test('--run: qemu-nbd above takes the inherited socket, and reads from the chunk server', async () => {
  const scope = createScope();
  const server = await openServer({
    target: { kind: 'socket-activation', argv: chunkProgramBelow(QEMU) },
    exportName: '',
  });
  scope.add(() => server.close());
  const client = await NbdClient.over(server);
  scope.add(() => client.close());
  expect(client.size).toBe(65_536n);
  expect(await client.read(5n, 40_000)).toEqual(Buffer.alloc(40_000));
});

test.each([
  ['exit 7', 7],
  ['exit 0', 0],
  ['kill -KILL $$', 137],
])('--run: the end of `%s` is the exit status %i', async (command, status) => {
  const scope = createScope();
  const { env, isEmpty } = temporaryFolder(scope);
  expect(await startBelow(scope, command, env).ended).toBe(status);
  await until('the folder to be empty', isEmpty);
});

test('--run: the socket is in a directory of its own for this user alone', async () => {
  const scope = createScope();
  const { env } = temporaryFolder(scope);
  const program = startBelow(scope, 'stat -c "%a %F" "$(dirname "$unixsocket")" "$unixsocket"', env);
  expect(await program.ended).toBe(0);
  expect(program.stdout).toMatch(/^700 directory\n\d+ socket\n$/);
});

test.each([
  ['is missing', 'none'],
  ['has a path that QEMU cannot use', 'long'.repeat(20)],
])('--run: a place for the socket is found where TMPDIR %s', async (_, name) => {
  const scope = createScope();
  const folder = scope.path(name);
  if (name !== 'none') mkdirSync(folder);
  const program = startBelow(scope, 'echo "$unixsocket"', { TMPDIR: folder });
  expect(await program.ended).toBe(0);
  expect(program.stdout).toMatch(/^\/tmp\/nbdfuse-chunks-[0-9a-f]{16}\/socket\n$/);
});

test.each(['SIGTERM', 'SIGKILL'] as const)(
  '--run: %s ends the command, and leaves no file',
  async (signal) => {
    const scope = createScope();
    const { env, isEmpty } = temporaryFolder(scope);
    const program = startBelow(scope, 'echo ready; exec sleep 1000', env);
    await program.says(/ready/);
    expect(isEmpty()).toBe(false);
    expect(await program.kill(signal)).toBe(signal === 'SIGTERM' ? 143 : 'SIGKILL');
    // The scope's end finds a process that is left.
    await until('the folder to be empty', isEmpty);
  },
);

test.each([
  ['the chunk server', chunkProgram()],
  ['the command above', chunkProgramBelow(QEMU)],
])('%s ends with the killed process that started it, and leaves no file', async (_, argv) => {
  const scope = createScope();
  const { env, isEmpty } = temporaryFolder(scope);
  const parent = `
    const { NbdClient, openServer } = await import(${JSON.stringify(LIBRARY)});
    const target = { kind: 'socket-activation', argv: ${JSON.stringify(argv)} };
    const client = await NbdClient.over(await openServer({ target, exportName: '' }));
    await client.read(0n, 512);
    console.log('ready');
    setInterval(() => undefined, 1000);`;
  const program = new Program(scope, process.execPath, ['--input-type=module', '-e', parent], { env });
  await program.says(/ready/);
  await program.kill('SIGKILL');
  await until('the folder to be empty', isEmpty);
});
