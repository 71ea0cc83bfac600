// The chunk server's socket, as the parent process gives it.

import { expect, test } from 'vitest';
import { NbdClient, openServer } from '../../../src/index.js';
import { AF_UNIX, closeDescriptor, isListening, openSocket, SOCK_STREAM } from '../../../src/linux/socket.js';
import { listenUnix, unixSocketPath } from '../../../src/linux/unix-socket.js';
import { chunkProgram } from '../../support/chunk-program.js';
import { createScope } from '../../support/cleanup.js';
import { Program } from '../../support/run/program.js';

test('inherited socket: serves the clients of the process that started it', async () => {
  const scope = createScope();
  const lines: string[] = [];
  const server = await openServer(
    { target: { kind: 'socket-activation', argv: chunkProgram() }, exportName: '' },
    { onStderr: (text) => lines.push(String(text)) },
  );
  scope.add(() => server.close());
  const client = await NbdClient.over(server);
  scope.add(() => client.close());
  expect(await client.read(1000n, 500)).toEqual(Buffer.alloc(500));
  // Children of the program must not see the variables.
  expect(lines.join('')).toMatch(/^path \/.*\/nbdfuse-[0-9a-f]{16}\/socket $/m);
});

test.each([
  ['no variables', {}, 'pipe', /there is no listening socket: start this program by socket activation/],
  ['another process number', { LISTEN_PID: '1', LISTEN_FDS: '1' }, 'pipe', /there is no listening socket/],
  ['two sockets', { LISTEN_FDS: '2' }, 'pipe', /LISTEN_FDS must be 1, not "2"/],
  ['no socket', { LISTEN_FDS: '1' }, 'ignore', /descriptor 3 is not a listening Unix socket/],
  ['a connected socket', { LISTEN_FDS: '1' }, 'pipe', /descriptor 3 is not a listening Unix socket/],
] as const)('inherited socket: %s is an error in one line', async (_, env, third, message) => {
  const scope = createScope();
  const [command, ...args] = chunkProgram();
  const program = new Program(scope, command, args, { env, stdio: ['ignore', 'ignore', 'pipe', third] });
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(message);
  expect(program.stderr.split('\n')).toHaveLength(2);
});

test('a Unix socket: its path is that of bind(2), up to 107 bytes', () => {
  const scope = createScope();
  for (const length of [scope.path('s').length, 107]) {
    const path = scope.path('s'.repeat(length - scope.folder.length - 1));
    const fd = openSocket(AF_UNIX, SOCK_STREAM);
    expect(isListening(fd)).toBe(false);
    listenUnix(fd, path);
    expect(isListening(fd)).toBe(true);
    expect(unixSocketPath(fd)).toBe(path);
    closeDescriptor(fd);
  }
});
