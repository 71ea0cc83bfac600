// A change in several requests, of which one gets an error and another is lost: the caller learns that it is open.

import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { BlockIo } from '../../../src/client/block-io.js';
import { ConnectionPool } from '../../../src/client/connection-pool.js';
import { NbdServerError } from '../../../src/index.js';
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../../../src/nbd/constants.js';
import { NegotiatedConnection } from '../../../src/transport/connection.js';
import { PLAIN_EXPORT } from '../../support/export-info.js';
import { simpleReply } from '../../support/scripted-wire.js';

const MIB = 1_048_576n;
const GIB = 1024n * MIB;
const ENOSPC = 28;
const EINVAL = 22;

const EXPORT = {
  ...PLAIN_EXPORT,
  size: 16n * GIB,
  structuredReplies: false,
  flags: PLAIN_EXPORT.flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN,
};

/** Two connections: the first answers its requests with an error, and the second is lost after that. */
function failingPool(errno: number): { io: BlockIo; play: () => Promise<void> } {
  const streams = [0, 1].map(
    () =>
      new Duplex({
        read: () => undefined,
        write: (_chunk, _encoding, done) => done(),
        final: (done) => done(),
      }),
  );
  const pool = new ConnectionPool(EXPORT, {});
  for (const stream of streams) pool.add(new NegotiatedConnection(EXPORT, stream));
  const play = async (): Promise<void> => {
    await new Promise(setImmediate);
    for (let cookie = 1n; cookie <= 4n; cookie++) streams[0].push(simpleReply(cookie, errno));
    await new Promise(setImmediate);
    streams[1].destroy();
  };
  return { io: new BlockIo(pool), play };
}

const CHANGES: readonly (readonly [string, (io: BlockIo) => Promise<void>])[] = [
  ['zero', (io) => io.zero({ start: 0n, end: EXPORT.size }, 0)],
  ['trim', (io) => io.trim({ start: 0n, end: EXPORT.size }, 0)],
  ['write', (io) => io.write(0n, Buffer.alloc(Number(256n * MIB)), 0)],
];

describe('a change in several requests', () => {
  it.each(CHANGES)('%s: a lost part counts more than an error of another part', async (_, change) => {
    const { io, play } = failingPool(ENOSPC);
    const changed = change(io);
    await Promise.all([expect(changed).rejects.toMatchObject({ code: 'ERR_NBD_CHANGE_UNKNOWN' }), play()]);
  });

  it.each(CHANGES)('%s: a refused length is not repeated when another part is lost', async (_, change) => {
    const { io, play } = failingPool(EINVAL);
    const changed = change(io);
    await Promise.all([expect(changed).rejects.not.toBeInstanceOf(NbdServerError), play()]);
  });
});
