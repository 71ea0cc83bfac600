import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { type ConnectionEnd, StreamConnection } from '../../../src/client/stream-connection.js';
import { NbdClosedError } from '../../../src/index.js';
import { NegotiatedConnection } from '../../../src/transport/connection.js';
import { PLAIN_EXPORT } from '../../support/export-info.js';
import { NBD_CMD_FLUSH } from '../../support/nbd-numbers.js';
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
