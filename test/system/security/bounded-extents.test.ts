// A server that reports more extents than a client should keep.

import { expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { E2BIG } from '../../../src/constants/errno.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { NBD_REPLY_TYPE_BLOCK_STATUS } from '../../support/nbd-numbers.js';
import { type RequestHandler, startScriptedServer } from '../../support/scripted-server.js';
import { u32 } from '../../support/scripted-wire.js';

const MOST = 2 ** 20;
const BLOCK = 512;
const TIB = 2n ** 40n;

/** `count` blocks, data and hole by turns, as a payload for context 1. */
function blocks(count: number): Buffer {
  const pairs = Buffer.alloc(count * 8);
  for (let i = 0; i < count; i++) {
    pairs.writeUInt32BE(BLOCK, i * 8);
    pairs.writeUInt32BE(i & 1, i * 8 + 4);
  }
  return Buffer.concat([u32(1), pairs]);
}

async function clientOf(scope: Scope, handler: RequestHandler): Promise<NbdClient> {
  const served = { size: TIB, structuredReplies: true, metaContexts: { 'base:allocation': 1 } };
  const server = await startScriptedServer(scope, served, handler);
  const client = await NbdClient.connect({ unix: server.socketPath });
  scope.add(() => client.close());
  return client;
}

it('extents: the library keeps a million of one reply, and can query the rest again', async () => {
  const scope = createScope();
  const payload = blocks(MOST + 1000);
  const client = await clientOf(scope, (_, reply) => {
    reply.chunk(NBD_REPLY_TYPE_BLOCK_STATUS, payload, true);
  });
  const { 'base:allocation': extents } = await client.blockStatus(0, TIB, { one: true });
  expect(extents).toHaveLength(MOST);
  expect(extents.at(-1)).toEqual({ offset: BigInt((MOST - 1) * BLOCK), length: BigInt(BLOCK), flags: 1 });
});

it('extents: blockStatus() fails for more than a million, and the error names extents()', async () => {
  const scope = createScope();
  const payload = blocks(400_000);
  const client = await clientOf(scope, (_, reply) => reply.chunk(NBD_REPLY_TYPE_BLOCK_STATUS, payload, true));
  const asking = client.blockStatus(0, TIB);
  await expect(asking).rejects.toThrow(
    /more than 1048576 extents of base:allocation: iterate over .* extents\(\)/,
  );
  await expect(asking).rejects.toMatchObject({ errno: E2BIG });
});
