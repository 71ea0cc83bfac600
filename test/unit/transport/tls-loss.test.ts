// A server that disappears when TLS has just begun: no stream may emit an error without a listener.

import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { openServer } from '../../../src/transport/server.js';
import { createScope } from '../../support/cleanup.js';
import { makePki } from '../../support/run/certificates.js';
import { nbdkitTls, startNbdkit } from '../../support/run/servers.js';

/** The first byte of a TLS record with a handshake message. */
const HANDSHAKE_RECORD = 22;

/**
 * Forwards everything. It forwards the server's answer to the ClientHello only when it is complete, and then
 * closes the connection: the client can still read it, but cannot send its own answer.
 */
async function dieAfterTheServersFlight(client: Socket, socket: string): Promise<void> {
  const server = createConnection(socket);
  onTestFinished(() => void server.destroy());
  for (const end of [client, server]) end.on('error', () => undefined);
  const flight: Buffer[] = [];
  let begun = false;
  server.on('data', (chunk: Buffer) => {
    if (begun) flight.push(chunk);
    else client.write(chunk);
  });
  client.on('data', (chunk: Buffer) => {
    begun ||= chunk[0] === HANDSHAKE_RECORD;
    server.write(chunk);
  });
  while (flight.length === 0) await once(server, 'data');
  // The server waits for the client now: it has sent everything once it has been silent for a while.
  for (let count = 0; count < flight.length; await pause(100)) count = flight.length;
  client.write(Buffer.concat(flight), () => client.destroy());
}

test.each([
  ['taken over later', true],
  ["Node's", false],
])(
  'TLS session: connect fails if the server dies during the start of one that is to be %s',
  async (_, handOver) => {
    const scope = createScope();
    const pki = makePki(scope.path('pki'));
    const nbdkit = await startNbdkit(scope, ...nbdkitTls(pki), 'memory', '1M');
    const proxy = createServer((client) => void dieAfterTheServersFlight(client, nbdkit.socket));
    onTestFinished(() => void proxy.close());
    const path = scope.path('proxy');
    proxy.listen(path);
    await once(proxy, 'listening');
    const tls = { certificates: pki, hostname: 'localhost' };
    const server = await openServer({ target: { kind: 'unix', path }, exportName: '', tls }, { handOver });
    await expect(server.connect()).rejects.toThrow(
      /secure the connection|during the handshake|closed the connection before/,
    );
  },
);
