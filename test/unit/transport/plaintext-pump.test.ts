import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { type Duplex, PassThrough } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { socketpair } from '../../../src/linux/socket.js';
import { NegotiatedConnection } from '../../../src/transport/connection.js';
import { DescriptorStream } from '../../../src/transport/descriptor-stream.js';
import { pumpPlaintext } from '../../../src/transport/plaintext-pump.js';
import { PLAIN_EXPORT } from '../../support/export-info.js';

/** A pump between `server` (the peer of the TLS session) and `worker` (the other end). */
function pumped(): { session: Socket; server: Socket; worker: DescriptorStream } {
  const [a, b] = socketpair();
  const session = new Socket({ fd: a, readable: true, writable: true });
  const server = new Socket({ fd: b, readable: true, writable: true, allowHalfOpen: true });
  server.on('error', () => undefined);
  const worker = new DescriptorStream(pumpPlaintext(session));
  worker.on('error', () => undefined);
  onTestFinished(() => {
    for (const stream of [session, server, worker]) stream.destroy();
  });
  return { session, server, worker };
}

async function readCount(stream: Duplex, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let have = 0;
  const whole = new Promise<void>((resolve) => {
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      have += chunk.length;
      if (have >= count) resolve();
    });
  });
  await whole;
  return Buffer.concat(chunks);
}

test('plaintext pump: carries many bytes both ways at once', async () => {
  const { server, worker } = pumped();
  const [there, back] = [randomBytes(12_000_000), randomBytes(9_000_000)];
  worker.write(there);
  server.write(back);
  const [atServer, atWorker] = await Promise.all([
    readCount(server, there.length),
    readCount(worker, back.length),
  ]);
  expect(atServer.equals(there)).toBe(true);
  expect(atWorker.equals(back)).toBe(true);
});

test('plaintext pump: reads no more from the session than a slow worker can take', async () => {
  const { session, server, worker } = pumped();
  const back = randomBytes(24_000_000);
  server.write(back);
  await once(session, 'pause');
  expect(session.bytesRead).toBeLessThan(back.length);
  const atWorker = await readCount(worker, back.length);
  expect(atWorker.equals(back)).toBe(true);
});

test('plaintext pump: reads no more from the worker than a slow server can take', async () => {
  const { session, server, worker } = pumped();
  const there = randomBytes(24_000_000);
  const all = new Promise<void>((resolve) => {
    worker.write(there, () => resolve());
  });
  await vi.waitUntil(() => session.writableNeedDrain, { timeout: 20_000, interval: 5 });
  expect(session.bytesWritten).toBeLessThan(there.length);
  const atServer = await readCount(server, there.length);
  await all;
  expect(atServer.equals(there)).toBe(true);
});

test('plaintext pump: forwards the last bytes of the server before the worker sees the end', async () => {
  const { server, worker } = pumped();
  server.end('last words');
  const chunks: Buffer[] = [];
  worker.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(worker, 'end');
  expect(Buffer.concat(chunks).toString()).toBe('last words');
});

test('plaintext pump: ends the connection to the worker when the session breaks', async () => {
  const { session, worker } = pumped();
  worker.resume();
  session.destroy(new Error('bad record'));
  await once(worker, 'end');
});

test('plaintext pump: sends the last bytes of the worker, then ends the session', async () => {
  const { session, server, worker } = pumped();
  worker.end('goodbye');
  const chunks: Buffer[] = [];
  server.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(server, 'end');
  expect(Buffer.concat(chunks).toString()).toBe('goodbye');
  server.end();
  await once(session, 'close');
});

test('negotiated connection: the worker refuses one that ended before the handover, without waiting', async () => {
  for (const take of ['takeSocket', 'takeDescriptor', 'takeStream'] as const) {
    const stream = new PassThrough();
    const connection = new NegotiatedConnection(PLAIN_EXPORT, stream);
    stream.destroy();
    await once(stream, 'close');
    expect(() => connection[take]()).toThrow('the server closed the connection after the handshake');
  }
});
