import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  AF_UNIX,
  closeDescriptor,
  isSocket,
  openSocket,
  SOCK_DGRAM,
  SOCK_STREAM,
  socketpair,
} from '../../../src/linux/socket.js';
import { listenUnix } from '../../../src/linux/unix-socket.js';
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

  test('reaches a socket whose path does not fit into a socket address', async () => {
    const folder = `${scratchFolder()}/${'x'.repeat(200)}`;
    mkdirSync(folder);
    const path = `${folder}/${'s'.repeat(120)}`;
    const fd = openSocket(AF_UNIX, SOCK_STREAM);
    listenUnix(fd, `${folder}/short`);
    renameSync(`${folder}/short`, path);
    const stream = await dial({ kind: 'unix', path });
    expect(stream.destroyed).toBe(false);
    stream.destroy();
    closeDescriptor(fd);
    await expect(dial({ kind: 'unix', path })).rejects.toThrow(
      `cannot connect to socket ${path}: connection refused; is the server still running?`,
    );
  });

  test.each([
    ['its exact name', ''],
    ['a name that is filled up with NULs', '\0'.repeat(60)],
  ])('reaches an abstract socket with %s', async (_, padding) => {
    const name = `\0nbdfuse-test-${process.pid}-${randomBytes(8).toString('hex')}`.padEnd(48, 'x');
    const fd = openSocket(AF_UNIX, SOCK_STREAM);
    listenUnix(fd, name + padding);
    const stream = await dial({ kind: 'unix', path: name });
    expect(readFileSync('/proc/net/unix', 'utf8')).toContain(`@${name.slice(1)}`);
    stream.destroy();
    closeDescriptor(fd);
    await expect(dial({ kind: 'unix', path: name })).rejects.toThrow(
      `cannot connect to socket @${name.slice(1)}: connection refused; is the server still running?`,
    );
  });

  test('waits while a server has no room for another connection', async () => {
    const path = `${scratchFolder()}/full`;
    const fd = openSocket(AF_UNIX, SOCK_STREAM);
    listenUnix(fd, path);
    const streams: Duplex[] = [];
    const abort = new AbortController();
    const connected = (async () => {
      for (;;) streams.push(await dial({ kind: 'unix', path }, abort.signal));
    })();
    await expect.poll(() => streams.length).toBeGreaterThan(128);
    abort.abort(new Error('the test is over'));
    await expect(connected).rejects.toThrow('the test is over');
    for (const stream of streams) stream.destroy();
    closeDescriptor(fd);
  });

  test('says what a path is that is no socket', async () => {
    const folder = scratchFolder();
    writeFileSync(`${folder}/file`, '');
    const reason = (path: string): Promise<string> =>
      dial({ kind: 'unix', path }).then(
        () => '',
        (error: Error) => error.message.replaceAll(folder, 'DIR'),
      );
    expect(await reason(`${folder}/file`)).toBe(
      'cannot connect to socket DIR/file: connection refused; it is not a socket',
    );
    expect(await reason(folder)).toMatch(/connection refused; it is not a socket$/);
    expect(await reason(`${folder}/@name`)).toMatch(
      /no such file or directory; for an abstract socket write nbd\+unix:\/\/\/\?socket=%00name$/,
    );
    const datagrams = openSocket(AF_UNIX, SOCK_DGRAM);
    expect(() => listenUnix(datagrams, `${folder}/datagrams`)).toThrow('listen');
    expect(await reason(`${folder}/datagrams`)).toMatch(/wrong type for socket; it is not a stream socket$/);
    closeDescriptor(datagrams);
    expect(await reason('')).toBe('cannot connect to socket : it is not a path');
    expect(await reason('a\0b')).toBe('cannot connect to socket a\\x00b: it is not a path');
    expect(await reason(`\0${'x'.repeat(108)}`)).toMatch(/the name of the socket is too long$/);
    expect(await reason(`${folder}/${'x'.repeat(4096)}`)).toMatch(/file name too long$/);
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
