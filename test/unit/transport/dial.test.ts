import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { closeDescriptor, isSocket, socketpair } from '../../../src/linux/socket.js';
import { DescriptorStream } from '../../../src/transport/descriptor-stream.js';
import { dial, streamOfDescriptor } from '../../../src/transport/dial.js';
import { scratchFolder } from '../../support/cleanup.js';

async function readAll(stream: Duplex): Promise<Buffer> {
  // Not by iterating: that would destroy the stream's other direction at the end.
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks);
}

describe('dial', () => {
  test('connects to a name in the abstract namespace', async () => {
    const path = `\0nbdfuse-test-${process.pid}-${Date.now()}`;
    const server = createServer((socket) => socket.end('hello'));
    onTestFinished(() => {
      server.close();
    });
    server.listen(path);
    await once(server, 'listening');
    expect((await readAll(await dial({ kind: 'unix', path }))).toString()).toBe('hello');
  });

  test('reports that a socket is missing', async () => {
    const path = `${scratchFolder()}/nothing`;
    await expect(dial({ kind: 'unix', path })).rejects.toThrow(
      `cannot connect to socket ${path}: no such file or directory`,
    );
  });

  test('refuses a path that does not fit into a socket address instead of cutting it', async () => {
    await expect(dial({ kind: 'unix', path: `/${'x'.repeat(107)}` })).rejects.toThrow(
      'longer than 107 bytes',
    );
  });

  test('reports why a vsock cannot be connected', async () => {
    await expect(dial({ kind: 'vsock', cid: 4242, port: 1 })).rejects.toThrow(
      /^cannot connect to vsock 4242:1: /,
    );
  });

  test.each([9999, -1])('reports that descriptor %i is not an open socket', async (fd) => {
    await expect(dial({ kind: 'fd', fd })).rejects.toThrow(
      `cannot use descriptor ${fd}: it is not an open socket`,
    );
  });

  test('reads and writes on an inherited descriptor', async () => {
    const [ours, theirs] = socketpair();
    const near = streamOfDescriptor(ours);
    const far = streamOfDescriptor(theirs);
    near.end('over there');
    expect((await readAll(far)).toString()).toBe('over there');
    near.destroy();
  });
});

describe('DescriptorStream', () => {
  function pair(): [DescriptorStream, DescriptorStream] {
    const [a, b] = socketpair();
    const streams: [DescriptorStream, DescriptorStream] = [new DescriptorStream(a), new DescriptorStream(b)];
    onTestFinished(() => {
      for (const stream of streams) stream.destroy();
    });
    return streams;
  }

  test('carries more than the kernel buffers, both ways at once', async () => {
    const [a, b] = pair();
    const there = Buffer.alloc(3_000_000, 'there');
    const back = Buffer.alloc(2_000_000, 'back');
    a.end(there);
    b.end(back);
    const [atB, atA] = await Promise.all([readAll(b), readAll(a)]);
    expect(atB.equals(there)).toBe(true);
    expect(atA.equals(back)).toBe(true);
  });

  test('serves many streams at once', async () => {
    const pairs = Array.from({ length: 20 }, pair);
    const texts = await Promise.all(
      pairs.map(async ([a, b], i) => {
        const received = readAll(b);
        setImmediate(() => a.end(`stream ${i}`));
        return (await received).toString();
      }),
    );
    expect(texts).toEqual(pairs.map((_, i) => `stream ${i}`));
  });

  test('reports a closed peer when it writes', async () => {
    const [a, b] = pair();
    const failed = once(a, 'error');
    b.destroy();
    await once(b, 'close');
    a.write('x');
    expect((await failed)[0].message).toMatch(/^send: /);
  });

  test('releases its descriptor with the connection open', async () => {
    const [a, b] = pair();
    const fd = a.release();
    await once(a, 'close');
    expect(isSocket(fd)).toBe(true);
    b.end('still here');
    expect((await readAll(new DescriptorStream(fd))).toString()).toBe('still here');
  });

  test('closes its descriptor when it is destroyed', async () => {
    const [a, b] = pair();
    a.destroy();
    expect((await readAll(b)).length).toBe(0);
  });

  test('drops a released descriptor from its table', async () => {
    const [a] = pair();
    a.read(0);
    const fd = a.release();
    closeDescriptor(fd);
    await once(a, 'close');
  });
});
