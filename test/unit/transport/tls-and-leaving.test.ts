// TLS and disconnecting with several kinds of servers: old versions, servers that leave TLS to the client, clients
// without a user name, and a cancelled handshake.

import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/index.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_UNSUP } from '../../support/nbd-numbers.js';
import { answerOptions, exportInfo, refusal, startRawServer } from '../../support/raw-server.js';
import { makePki } from '../../support/run/certificates.js';
import { createPsk } from '../../support/run/images.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit, startQemuNbd } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'qemu-nbd', 'certtool', 'psktool');

async function sizeAt(scope: Scope, uri: string): Promise<bigint> {
  const client = await NbdClient.connect(uri);
  scope.add(() => client.close());
  return client.size;
}

it('TLS: works with and without it where the server leaves the choice to the client ("SELECTIVETLS mode")', async () => {
  const scope = createScope();
  const pki = makePki(scope.path('pki'));
  const { socket } = await startNbdkit(scope, '--tls=on', `--tls-certificates=${pki}`, 'memory', '1M');
  expect(await sizeAt(scope, `nbd+unix:///?socket=${socket}`)).toBe(1_048_576n);
  const secure = `nbds+unix:///?socket=${socket}&tls-certificates=${pki}&tls-hostname=localhost`;
  expect(await sizeAt(scope, secure)).toBe(1_048_576n);
});

it.each([
  ['1.3', true],
  ['1.2', true],
  ['1.1', false],
])('TLS: a server that knows no version but %s: %s ("TLS versions")', async (version, isUsed) => {
  const scope = createScope();
  const pki = makePki(scope.path('pki'));
  const file = scope.path('disk.raw');
  writeFileSync(file, Buffer.alloc(1_048_576));
  const priority = `NORMAL:-VERS-ALL:+VERS-TLS${version}`;
  const object = `--object=tls-creds-x509,id=tls0,endpoint=server,dir=${pki},priority=${priority}`;
  const { socket } = await startQemuNbd(scope, '--format=raw', object, '--tls-creds=tls0', file);
  const uri = `nbds+unix:///?socket=${socket}&tls-certificates=${pki}&tls-hostname=localhost`;
  if (isUsed) expect(await sizeAt(scope, uri)).toBe(1_048_576n);
  else await expect(sizeAt(scope, uri)).rejects.toThrow(/TLS/);
});

it('TLS: a pre-shared key without a user name is that of the current user ("NBD URI authority")', async () => {
  const scope = createScope();
  const keys = createPsk(scope.path('keys.psk'), userInfo().username);
  const { socket } = await startNbdkit(scope, '--tls=require', `--tls-psk=${keys}`, 'memory', '1M');
  expect(await sizeAt(scope, `nbds+unix:///?socket=${socket}&tls-psk-file=${keys}`)).toBe(1_048_576n);
});

it('NBD_OPT_ABORT: the client closes the connection, with or without a reply ("Termination of the session during option haggling")', async () => {
  const scope = createScope();
  const options: number[] = [];
  let closed = false;
  const server = await startRawServer(scope, (socket) => {
    socket.on('end', () => {
      closed = true;
      socket.end();
    });
    answerOptions(socket, (option) => {
      options.push(option);
      if (option === 2) return;
      if (option === 7) socket.write(exportInfo(option, 4096n));
      socket.write(refusal(option, option === 7 ? NBD_REP_ERR_UNKNOWN : NBD_REP_ERR_UNSUP, 'no such thing'));
    });
  });
  await expect(NbdClient.connect(server.uri)).rejects.toThrow('no such thing');
  await until('the end of the connection', () => closed);
  // NBD_OPT_GO is the last option but for NBD_OPT_ABORT; nbdfuse may list the names on another connection.
  expect(options.slice(options.indexOf(7), options.indexOf(7) + 2)).toEqual([7, 2]);
});
