// Finding the state of a session that another implementation has begun.

import { describe, expect, test } from 'vitest';
import { RecordWatcher } from '../../../src/tls/record-watcher.js';
import { forgetSecrets, standing } from '../../../src/tls/take-over.js';
import { hex } from '../../support/hex.js';
import * as rfc8448 from '../../support/rfc8448.js';
import { PeerDirection, SUITES, someSecret } from '../../support/tls-peer.js';

const SUITE = 'TLS_AES_256_GCM_SHA384';
const SECRET = someSecret(SUITE, 3);
const [ALERT, HANDSHAKE, DATA] = [21, 22, 23];

describe('TLS take-over: last record', () => {
  const stream = Buffer.concat([rfc8448.SERVER_TICKET, rfc8448.SERVER_DATA, rfc8448.SERVER_CLOSE]);

  test.each([1, 3, 100, 290, 1000])('is known when the stream arrives %d bytes at a time', (piece) => {
    const watcher = new RecordWatcher();
    const seen = stream.subarray(0, -10);
    for (let at = 0; at < seen.length; at += piece) watcher.see(seen.subarray(at, at + piece));
    expect(watcher.last).toEqual(rfc8448.SERVER_DATA);
    expect(watcher.begun).toEqual(rfc8448.SERVER_CLOSE.subarray(0, -10));
  });

  test('does not exist before the first record is complete', () => {
    const watcher = new RecordWatcher();
    watcher.see(stream.subarray(0, 4));
    expect([watcher.last.length, watcher.begun.length]).toEqual([0, 4]);
  });
});

describe('TLS take-over: sequence number', () => {
  test.each(SUITES)('is found by the last record, with %s', (suite) => {
    const secret = someSecret(suite, 9);
    const peer = new PeerDirection(suite, secret, 17);
    expect(standing(suite, secret, peer.seal(DATA, Buffer.from('17')))).toEqual({ secret, sequence: 18 });
  });

  test('is found behind a ticket', () => {
    const found = standing('TLS_AES_128_GCM_SHA256', rfc8448.SERVER_SECRET, rfc8448.SERVER_TICKET);
    expect(found?.sequence).toBe(1);
  });

  const cases: [string, (peer: PeerDirection) => Uint8Array][] = [
    ['nothing has been received', () => new Uint8Array(0)],
    ['the record is of the handshake, under other keys', () => rfc8448.SERVER_DATA],
    ['a message goes on in the next record', (peer) => peer.seal(HANDSHAKE, hex`04 000010 0000`)],
    ['the keys have changed', (peer) => peer.seal(HANDSHAKE, hex`18 000001 00`)],
    ['the server has ended the session', (peer) => peer.seal(ALERT, hex`01 00`)],
    ['there were too many records', (peer) => Object.assign(peer, { sequence: 5000 }).seal(DATA, hex`00`)],
  ];

  test.each(cases)('is unknown when %s', (_name, make) => {
    expect(standing(SUITE, SECRET, make(new PeerDirection(SUITE, SECRET)))).toBeUndefined();
  });
});

test('TLS take-over: forgotten secrets are overwritten', () => {
  const [receiving, sending] = [1, 2].map((fill) => ({ secret: someSecret(SUITE, fill), sequence: 0 }));
  forgetSecrets({ suite: SUITE, receiving, sending, begun: new Uint8Array(0) });
  expect([...receiving.secret, ...sending.secret].every((byte) => byte === 0)).toBe(true);
});
