import { once } from 'node:events';
import { createServer } from 'node:net';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { ConnectionPool, type Loss } from '../../../src/client/connection-pool.js';
import { type ConnectionEnd, StreamConnection } from '../../../src/client/stream-connection.js';
import { NbdClosedError } from '../../../src/index.js';
import { NegotiatedConnection } from '../../../src/transport/connection.js';
import { ReceivingSocket } from '../../../src/transport/receiving-socket.js';
import { createScope } from '../../support/cleanup.js';
import { PLAIN_EXPORT } from '../../support/export-info.js';
import { NBD_CMD_FLUSH } from '../../support/nbd-numbers.js';
import { until } from '../../support/run/until.js';
import { simpleReply } from '../../support/scripted-wire.js';

/** A stream whose other end reads everything, ends with it, and sends what the test pushes. */
function testStream(): Duplex {
  return new Duplex({
    read: () => undefined,
    write: (_chunk, _encoding, done) => done(),
    final(done) {
      this.push(null);
      done();
    },
  });
}

test('a second close of a connection that drains waits for the first one, and gives the reason', async () => {
  const stream = testStream();
  const ends: ConnectionEnd[] = [];
  const connection = new StreamConnection(new NegotiatedConnection(PLAIN_EXPORT, stream), {
    answered: () => undefined,
    turnedAway: () => undefined,
    lost: (_, end) => ends.push(end),
  });
  const flushing = connection.submit({ type: NBD_CMD_FLUSH, flags: 0, offset: 0n, length: 0 });
  const reason = new NbdClosedError();
  const closings = [connection.close(), connection.close(reason)];
  stream.push(simpleReply(1n, 0));
  await flushing;
  await Promise.all(closings);
  expect(ends).toEqual([{ error: reason, unanswered: [], madeProgress: true }]);
});

test('bytes that break the protocol right after the handshake end a connection that its pool knows', async () => {
  const scope = createScope();
  const path = scope.path('early.socket');
  const server = createServer((socket) => {
    scope.add(() => void socket.destroy());
    socket.on('error', () => undefined).write('no reply of the protocol');
  });
  scope.add(() => void server.close());
  server.listen(path);
  await once(server, 'listening');
  const stream = new ReceivingSocket();
  stream.connect(path);
  await once(stream, 'readable');
  const losses: Loss[] = [];
  const pool = new ConnectionPool(PLAIN_EXPORT, { waits: true, onLost: (loss) => losses.push(loss) });
  pool.add(new NegotiatedConnection(PLAIN_EXPORT, stream));
  await until('the loss', () => losses.length > 0);
  expect(losses).toMatchObject([{ left: 0, madeProgress: false, error: { name: 'NbdProtocolError' } }]);
  expect(pool.size).toBe(0);
});
