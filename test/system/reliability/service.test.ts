// As a service: the messages to systemd over NOTIFY_SOCKET, which is a socket of the test.

import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt } from '../../support/files.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'socat');

interface Manager {
  /** The value of NOTIFY_SOCKET. */
  readonly address: string;
  readonly program: Program;
}

/** A receiver of datagrams, on a path. */
async function listenOnPath(scope: Scope): Promise<Manager> {
  const address = scope.path('notify');
  const program = new Program(scope, 'socat', ['-u', `UNIX-RECV:${address}`, 'STDOUT']);
  await until('the manager to listen', () => existsSync(address));
  return { address, program };
}

/** The same, on an abstract name. */
async function listenOnName(scope: Scope): Promise<Manager> {
  const name = `nbdfuse-test-${randomBytes(8).toString('hex')}`;
  const program = new Program(scope, 'socat', ['-d', '-d', '-u', `ABSTRACT-RECV:${name}`, 'STDOUT']);
  await program.says(/starting data transfer loop/);
  return { address: `@${name}`, program };
}

it.each([
  ['a path', listenOnPath],
  ['an abstract name', listenOnName],
])('systemd notify: reports readiness, events and the end over %s', async (_, listen) => {
  const scope = createScope();
  const { address, program: manager } = await listen(scope);
  const server = await startNbdkit(scope, 'memory', '1M');
  const env = { NOTIFY_SOCKET: address };
  const disk = await mountDisk(scope, {
    server: [server.uri()],
    options: ['--cache=none'],
    program: { env },
  });
  await manager.says(new RegExp(`READY=1\nMAINPID=${disk.program.pid}\nSTATUS=serving ${disk.mountpoint}`));
  await server.program.kill('SIGKILL');
  await manager.says(/STATUS=.*the server is lost: the server closed the connection; reconnecting/);
  await startNbdkit(scope, 'memory', '1M');
  await manager.says(/STATUS=.*reconnected after/);
  expect(await disk.stop()).toBe(0);
  await manager.says(/STOPPING=1\nSTATUS=unmounting/);
});

it('systemd notify: works without a manager, and servers do not get its socket', async () => {
  const scope = createScope();
  const seen = scope.path('seen');
  const script = scope.path('server.sh');
  writeFileSync(script, `#!/bin/sh\necho "<$NOTIFY_SOCKET>" > ${seen}\nexec nbdkit -f memory 1M\n`);
  const disk = await mountDisk(scope, {
    server: ['[', 'sh', script, ']'],
    program: { env: { NOTIFY_SOCKET: scope.path('nobody') } },
  });
  expect((await readAt(disk.file, 0, 512)).length).toBe(512);
  expect((await readAt(seen, 0, 10)).toString()).toBe('<>\n');
  expect(await disk.stop()).toBe(0);
});
