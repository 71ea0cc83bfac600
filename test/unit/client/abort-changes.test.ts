import { describe, expect, test } from 'vitest';
import type { ClientOptions } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE, NBD_ESHUTDOWN } from '../../support/nbd-numbers.js';
import { until } from '../../support/run/until.js';
import type { ScriptedExport } from '../../support/scripted-handshake.js';
import { answerAll, type ReplyWriter, startScriptedServer } from '../../support/scripted-server.js';
import { connect } from './support.js';

/** NBD_FLAG_HAS_FLAGS, SEND_FLUSH. */
const FLAGS = 0x0005;
const BYTES: ScriptedExport = { size: 2n ** 20n, flags: FLAGS, blockSizes: [1, 4096, 2 ** 25] };
const BLOCKS: ScriptedExport = { ...BYTES, blockSizes: [512, 4096, 2 ** 25] };

/** A client whose first write the server makes and answers only when `land` is called. */
async function start(served: ScriptedExport, options: ClientOptions = {}) {
  const disk = Buffer.alloc(Number(served.size));
  const held: { land: () => void; reply: ReplyWriter }[] = [];
  const server = await startScriptedServer(createScope(), served, (request, reply) => {
    const at = Number(request.offset);
    if (request.type === NBD_CMD_READ) reply.data(disk.subarray(at, at + request.length));
    else if (request.type !== NBD_CMD_WRITE) answerAll(request, reply);
    else {
      const land = (): void => {
        disk.set(request.payload, at);
        reply.ok();
      };
      if (held.length > 0) land();
      else held.push({ land, reply });
    }
  });
  const client = await connect({ unix: server.socketPath }, options);
  const stop = new AbortController();
  const writing = client.write(0, Buffer.alloc(100, 1), { signal: stop.signal });
  await until('the first write', () => held.length > 0);
  stop.abort(new Error('enough'));
  await expect(writing).rejects.toThrow('enough');
  const typesSoFar = (): number[] => server.requests.map(({ type }) => type);
  return { client, server, disk, held: held[0], typesSoFar };
}

describe('an aborted write that the server makes late', () => {
  test('does not land on newer bytes of its block that it does not have', async () => {
    const { client, disk, held, typesSoFar } = await start(BLOCKS);
    const newer = client.write(100, Buffer.alloc(100, 2));
    await client.read(4096, 512);
    expect(typesSoFar()).toEqual([NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_READ]);
    held.land();
    await newer;
    await client.flush();
    expect([disk[99], disk[100], disk[199], disk[200]]).toEqual([1, 2, 2, 0]);
  });

  test.each([
    ['bytes', BYTES],
    ['blocks', BLOCKS],
  ])('does not land on a newer write of the same bytes, on a disk of %s', async (_, served) => {
    const { client, disk, held } = await start(served);
    const newer = client.write(0, Buffer.alloc(512, 2));
    await client.read(4096, 512);
    held.land();
    await newer;
    expect([disk[0], disk[511]]).toEqual([2, 2]);
  });

  test('delays no other write', async () => {
    const { client, disk, held } = await start(BYTES);
    await client.write(100, Buffer.alloc(100, 2));
    expect(disk[100]).toBe(2);
    held.land();
  });

  test('is covered by a later flush', async () => {
    const { client, disk, held, typesSoFar } = await start(BYTES);
    const flushing = client.flush();
    await client.read(4096, 512);
    expect(typesSoFar()).not.toContain(NBD_CMD_FLUSH);
    held.land();
    await flushing;
    expect(disk[0]).toBe(1);
  });
});

test('an aborted write that waits for another one is not sent, and is not sent again after NBD_ESHUTDOWN', async () => {
  const { client, server, held } = await start(BYTES, { reconnect: 60 });
  const stop = new AbortController();
  const waiting = client.write(50, Buffer.alloc(100, 2), { signal: stop.signal });
  stop.abort(new Error('too late'));
  await expect(waiting).rejects.toThrow('too late');
  held.reply.error(NBD_ESHUTDOWN);
  await client.write(0, Buffer.alloc(512, 3));
  const writes = server.requests.filter(({ type }) => type === NBD_CMD_WRITE);
  expect(writes.map(({ connection, length }) => [connection, length])).toEqual([
    [0, 100],
    [1, 512],
  ]);
});
