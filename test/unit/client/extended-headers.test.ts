// Extended headers, as a client of the library sends and reads them.

import { expect, test } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
} from '../../support/nbd-numbers.js';
import { type RequestHandler, startScriptedServer } from '../../support/scripted-server.js';
import { connect } from './support.js';

/** HAS_FLAGS, SEND_FLUSH, FUA, TRIM, WRITE_ZEROES, CACHE. */
const FLAGS = 0x046d;
const SIZE = 2n ** 46n;
const CONTEXT = 9;

/** A client of a scripted server of 64 TiB with extended headers, which checks the form of each request. */
async function connectTo(handler: RequestHandler) {
  const metaContexts = { 'base:allocation': CONTEXT };
  const served = { size: SIZE, flags: FLAGS, extendedHeaders: true, metaContexts };
  const server = await startScriptedServer(createScope(), served, handler);
  return { server, client: await connect({ unix: server.socketPath }) };
}

test('extended headers: a WRITE marks its length as that of a payload, and a READ gets chunks', async () => {
  const { server, client } = await connectTo((request, reply) => {
    if (request.type === NBD_CMD_WRITE) reply.ok();
    else reply.data(Buffer.alloc(512, 5));
  });
  expect(client.info.extendedHeaders).toBe(true);
  expect(client.size).toBe(SIZE);
  await client.write(2n ** 45n, Buffer.alloc(512));
  expect((await client.read(2n ** 45n, 512)).equals(Buffer.alloc(512, 5))).toBe(true);
  const place = { offset: 2n ** 45n, length: 512 };
  expect(server.requests).toMatchObject([
    { flags: NBD_CMD_FLAG_PAYLOAD_LEN, type: NBD_CMD_WRITE, ...place },
    { flags: 0, type: NBD_CMD_READ, ...place },
  ]);
});

test('extended headers: trim, zero and block status of many TiB take one request each', async () => {
  const { server, client } = await connectTo((request, reply) => {
    if (request.type !== NBD_CMD_BLOCK_STATUS) reply.ok();
    else
      reply.status(
        CONTEXT,
        [
          [2 ** 44, 0],
          [3 * 2 ** 44, 3],
        ],
        true,
      );
  });
  await client.trim(0, SIZE);
  await client.zero(0, SIZE);
  expect(await client.blockStatus(0, SIZE)).toEqual({
    'base:allocation': [
      { offset: 0n, length: 2n ** 44n, flags: 0 },
      { offset: 2n ** 44n, length: 3n * 2n ** 44n, flags: 3 },
    ],
  });
  expect(server.requests.map(({ length }) => BigInt(length))).toEqual([SIZE, SIZE, SIZE]);
});

test('extended headers: block status of a metadata context that was not negotiated ends the connection', async () => {
  const { client } = await connectTo((_, reply) => reply.status(CONTEXT + 1, [[2 ** 46, 3]], false));
  await expect(client.blockStatus(0, 512)).rejects.toThrow(/context that was not negotiated/);
});
