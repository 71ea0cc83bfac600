import { expect, test } from 'vitest';
import type { NbdClient } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { until } from '../../support/run/until.js';
import { type ReplyWriter, type RequestHandler, startScriptedServer } from '../../support/scripted-server.js';
import { type ScriptedRequest, simpleReply } from '../../support/scripted-wire.js';
import { connect } from './support.js';

const LENGTH = 2 ** 20;

/** Bytes that differ at each position of a disk, so that a shift shows. */
function content(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32BE((offset + at) >>> 0, at);
  return bytes;
}

/** A client of a scripted server, whose reads go to `handler`. */
async function connectTo(handler: RequestHandler, structuredReplies = false): Promise<NbdClient> {
  const server = await startScriptedServer(
    createScope(),
    { size: 2n ** 26n, flags: 0x0001, structuredReplies },
    handler,
  );
  return connect({ unix: server.socketPath });
}

/** Writes bytes to the client in groups of `size`, each after the client had time to receive the one before. */
async function sendSlowly(reply: ReplyWriter, bytes: Buffer, size: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += size) {
    reply.raw(bytes.subarray(at, at + size));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test.each([1000, 16_384, 70_001, 2 ** 22])(
  'large reads: put each byte into its place when replies arrive in groups of %d bytes',
  async (size) => {
    const waiting: [ScriptedRequest, ReplyWriter][] = [];
    const client = await connectTo((request, reply) => {
      if (waiting.push([request, reply]) < 4) return;
      // Large and small ones by turns, in another order.
      const order = [2, 1, 3, 0].map((index) => waiting[index]);
      const replies = order.map(([{ cookie, offset, length }]) =>
        simpleReply(cookie, 0, content(Number(offset), Number(length))),
      );
      void sendSlowly(reply, Buffer.concat(replies), size);
    });
    const wanted: [number, number][] = [
      [0, LENGTH],
      [LENGTH, 4096],
      [2 * LENGTH, LENGTH],
      [3 * LENGTH, 40_000],
    ];
    const found = await Promise.all(wanted.map(([offset, length]) => client.read(offset, length)));
    for (const [i, [offset, length]] of wanted.entries())
      expect(found[i].equals(content(offset, length))).toBe(true);
  },
  20_000,
);

test('large reads: put chunks that arrive out of order, and a hole, into their places', async () => {
  const half = LENGTH / 2;
  const client = await connectTo(({ offset }, reply) => {
    reply.dataChunk(offset + BigInt(half), content(half, half / 2));
    reply.holeChunk(offset + BigInt(half + half / 2), half / 2);
    reply.dataChunk(offset, content(0, half), true);
  }, true);
  const expected = Buffer.concat([content(0, half + half / 2), Buffer.alloc(half / 2)]);
  expect((await client.read(0, LENGTH)).equals(expected)).toBe(true);
});

test('large reads: an aborted one rejects in the middle of its data, and the rest touches nothing', async () => {
  const replies: [ScriptedRequest, ReplyWriter][] = [];
  const client = await connectTo((request, reply) => {
    replies.push([request, reply]);
  });
  const stop = new AbortController();
  const into = Buffer.alloc(LENGTH, 0xff);
  const reading = client.readInto(into, 0, { signal: stop.signal });
  await until('the request to arrive', () => replies.length === 1);
  const [[{ cookie }, reply]] = replies;
  const whole = simpleReply(cookie, 0, Buffer.alloc(LENGTH, 1));
  reply.raw(whole.subarray(0, LENGTH / 2));
  await until('a part of the data to arrive', () => into[100_000] === 1);
  stop.abort(new Error('enough'));
  await expect(reading).rejects.toThrow('enough');
  into.fill(0xff);
  reply.raw(whole.subarray(LENGTH / 2));
  const next = client.read(0, 512);
  await until('the next request to arrive', () => replies.length === 2);
  replies[1][1].data(Buffer.alloc(512, 2));
  expect((await next)[0]).toBe(2);
  expect(into.equals(Buffer.alloc(LENGTH, 0xff))).toBe(true);
});

test('large reads: reject when the connection ends in the middle of their data', async () => {
  const client = await connectTo(({ cookie }, reply) => {
    reply.raw(simpleReply(cookie, 0, Buffer.alloc(LENGTH)).subarray(0, LENGTH / 2));
    reply.socket.end();
  });
  await expect(client.readInto(Buffer.alloc(LENGTH), 0)).rejects.toThrow('the server closed it');
});

test('large reads: a server that sends more than the data ends the connection', async () => {
  const client = await connectTo(({ cookie }, reply) => {
    reply.raw(simpleReply(cookie, 0, Buffer.alloc(LENGTH + 100)));
  });
  await client.read(0, LENGTH);
  expect((await client.closed).message).toContain('magic');
});
