// Servers whose handshake has no end: nbdfuse limits its size and its time, and closes the connection.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { Handshake } from '../../../src/nbd/handshake/handshake.js';
import { HANDSHAKE_TIME, negotiate } from '../../../src/transport/negotiate.js';
import { createScope } from '../../support/cleanup.js';
import {
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_META_CONTEXT,
  NBD_REP_SERVER,
} from '../../support/nbd-numbers.js';
import { answerOptions, refusal, startRawServer } from '../../support/raw-server.js';
import { startNbdfuse } from '../../support/run/mount.js';
import { optionReply, u16, u32 } from '../../support/scripted-wire.js';

/** Sends `piece` endlessly, as fast as the client reads. */
function flood(socket: Socket, piece: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', more);
  more();
}

it.each<[string, number, Buffer, readonly string[]]>([
  ['information about an export', NBD_OPT_GO, optionReply(7, NBD_REP_INFO, u16(0x7777)), []],
  [
    'entries of a list',
    NBD_OPT_LIST,
    optionReply(3, NBD_REP_SERVER, Buffer.concat([u32(1), Buffer.from('x')])),
    ['--list'],
  ],
  [
    'long entries',
    NBD_OPT_LIST,
    optionReply(3, NBD_REP_SERVER, Buffer.concat([u32(1), Buffer.alloc(4097, 'x')])),
    ['--list'],
  ],
  ['replies to another option', NBD_OPT_GO, optionReply(10, NBD_REP_META_CONTEXT, u32(1)), []],
  ['nothing but one byte', NBD_OPT_GO, Buffer.from('x'), []],
])('endless handshake: %s give one line and status 1', async (_, about, piece, options) => {
  const scope = createScope();
  const server = await startRawServer(scope, (socket) =>
    answerOptions(socket, (option) => {
      if (option === about) flood(socket, piece);
      else socket.write(refusal(option, NBD_REP_ERR_UNSUP, ''));
    }),
  );
  const words = options.length > 0 ? [...options, server.uri] : [scope.folder, server.uri];
  const program = startNbdfuse(scope, words);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(/^nbdfuse: .*(too many replies|came while|begins with magic)[^\n]*\n$/);
});

it('endless handshake: nbdfuse ends a slow handshake when its time is over, and closes the connection', async () => {
  const scope = createScope();
  const server = await startRawServer(scope, (socket) => {
    // A refusal that announces 60,000 bytes of text, and sends one occasionally.
    const announced = optionReply(11, NBD_REP_ERR_UNSUP, Buffer.alloc(60_000, 'x'));
    socket.write(Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3), announced.subarray(0, 20)]));
    const timer = setInterval(() => socket.write('x'), 10);
    socket.on('close', () => clearInterval(timer));
  });
  const stream = connect(server.socketPath);
  await once(stream, 'connect');
  const handshake = new Handshake({ goal: { kind: 'go', exportName: '' }, tls: 'disable' });
  const limit = AbortSignal.timeout(500);
  await expect(negotiate(stream, handshake, undefined, limit)).rejects.toMatchObject({
    name: 'TimeoutError',
  });
  expect(stream.destroyed).toBe(true);
  expect(HANDSHAKE_TIME).toBeLessThanOrEqual(60_000);
});
