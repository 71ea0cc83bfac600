// Clients of the chunk server's NBD server that do what no real program does.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { MemoryDisk } from '../../support/memory-disk.js';
import { CLIENT_FLAGS, option, requestBytes } from '../../support/option-bytes.js';
import { until } from '../../support/run/until.js';
import { simpleReply } from '../../support/scripted-wire.js';
import { startDisk } from '../../support/served-disk.js';

const MIB = 1024 * 1024;
const [READ, WRITE, DISC] = [0, 1, 2];
const EXPORT_NAME = 1;
/** Bytes of the greeting and of the reply to NBD_OPT_EXPORT_NAME. */
const HANDSHAKE = 18 + 10;
/** Payload bytes of one client that are in progress at most. */
const BOUND = 64 * MIB;

/** A client in the transmission phase, with simple replies, that has not read anything. */
function openClient(scope: Scope, path: string): Socket {
  const socket = connect({ path, allowHalfOpen: true }).pause();
  scope.add(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write(Buffer.concat([CLIENT_FLAGS, option(EXPORT_NAME)]));
  return socket;
}

/** The number of bytes until the end of the connection, or until there are `count`. */
async function readBytes(socket: Socket, count = Number.POSITIVE_INFINITY): Promise<number> {
  let found = 0;
  const isOver = new Promise<void>((resolve) => {
    socket.on('close', resolve).on('end', resolve);
    socket.on('data', (bytes: Buffer) => {
      found += bytes.length;
      if (found >= count) resolve();
    });
  });
  socket.resume();
  await isOver;
  return found;
}

/** Another client's requests are done: the server has had the time for more of the first one's. */
async function serveAnother(scope: Scope, path: string, count = 5): Promise<void> {
  const other = openClient(scope, path);
  // One of no bytes does not reach the disk.
  for (let i = 1; i <= count; i++) other.write(requestBytes({ type: READ, length: 0 }));
  await readBytes(other, HANDSHAKE + count * 16);
  other.destroy();
}

test('serve: a client that does not read stops the reading of its requests', async () => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  const { socket } = await startDisk(scope, disk);
  const client = openClient(scope, socket);
  for (let i = 0; i < 100; i++) client.write(requestBytes({ type: READ, length: MIB }));
  await until('requests', () => disk.operations.length === BOUND / MIB);
  await serveAnother(scope, socket);
  expect(disk.operations).toHaveLength(BOUND / MIB);
  const expected = HANDSHAKE + 100 * (16 + MIB);
  expect(await readBytes(client, expected)).toBe(expected);
  expect(disk.operations).toHaveLength(100);
});

test.each([
  ['one by one', 1],
  ['in one turn', 40],
])('serve: bytes that are there at once leave whole and in order, %s', async (_, atOnce) => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  disk.fill();
  // In parts, some of which are copied to leave as one.
  disk.readNow = (offset, length) => [
    disk.bytes.subarray(offset, offset + 1),
    disk.bytes.subarray(offset + 1, offset + length),
  ];
  const { socket } = await startDisk(scope, disk);
  const client = openClient(scope, socket);
  const lengths = Array.from({ length: 40 }, (_, i) => [1, 4096, 16_367, 16_368, 16_369, 200_000][i % 6]);
  const requests = lengths.map((length, i) => requestBytes({ type: READ, offset: i, length }));
  const received: Buffer[] = [];
  const ended = once(client, 'end');
  client.on('data', (bytes: Buffer) => received.push(bytes)).resume();
  const bytesIn = (): number => received.reduce((sum, { length }) => sum + length, 0);
  let expected = HANDSHAKE;
  for (let i = 0; i < requests.length; i += atOnce) {
    const parts = requests.slice(i, i + atOnce);
    // The last requests come with the end of the connection.
    const isLast = i + atOnce >= requests.length;
    client.write(Buffer.concat(isLast ? [...parts, requestBytes({ type: DISC })] : parts));
    for (const length of lengths.slice(i, i + atOnce)) expected += 16 + length;
    await until('replies', () => bytesIn() === expected);
  }
  await ended;
  const replies = lengths.map((length, i) =>
    Buffer.concat([simpleReply(1n, 0), disk.bytes.subarray(i, i + length)]),
  );
  expect(Buffer.concat(received).subarray(HANDSHAKE).equals(Buffer.concat(replies))).toBe(true);
  expect(disk.operations).toEqual([]);
});

test('serve: writes that the disk has not done stop the reading of more', async () => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  const waiting: (() => void)[] = [];
  disk.before = () => new Promise((go) => waiting.push(go));
  const { socket } = await startDisk(scope, disk);
  const client = openClient(scope, socket);
  const write = requestBytes({ type: WRITE, payload: Buffer.alloc(MIB, 1) });
  for (let i = 0; i < 100; i++) client.write(write);
  await until('requests', () => disk.operations.length === BOUND / MIB);
  await serveAnother(scope, socket);
  expect(disk.operations).toHaveLength(BOUND / MIB);
  disk.before = () => undefined;
  for (const go of waiting) go();
  expect(await readBytes(client, HANDSHAKE + 100 * 16)).toBe(HANDSHAKE + 100 * 16);
});

test.each([
  ['NBD_CMD_DISC', (client: Socket) => client.write(requestBytes({ type: DISC }))],
  ['the end of its bytes', (client: Socket) => client.end()],
])('serve: a client gets all replies after %s, and then the end', async (_, leave) => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  const waiting: (() => void)[] = [];
  disk.before = () => new Promise((go) => waiting.push(go));
  const { socket } = await startDisk(scope, disk);
  const client = openClient(scope, socket);
  for (let i = 0; i < 10; i++) client.write(requestBytes({ type: READ, length: 4096 }));
  leave(client);
  await until('requests', () => waiting.length === 10);
  for (const go of waiting) go();
  expect(await readBytes(client)).toBe(HANDSHAKE + 10 * (16 + 4096));
  client.destroy();
  await until('the client to be gone', () => disk.connections === 0);
});

test('serve: a client that loses the framing loses its connection, and others keep theirs', async () => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  const { socket, server } = await startDisk(scope, disk);
  const [bad, good] = [openClient(scope, socket), openClient(scope, socket)];
  bad.write(Buffer.alloc(28));
  await readBytes(bad);
  bad.destroy();
  await until('the client to be gone', () => server.clients === 1 && disk.connections === 1);
  good.write(requestBytes({ type: READ, length: 10 }));
  expect(await readBytes(good, HANDSHAKE + 26)).toBe(HANDSHAKE + 26);
});

test('serve: a client that leaves while the disk opens leaves nothing', async () => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { socket, server } = await startDisk(scope, { connect: () => opened.then(() => disk.connect()) });
  const client = connect(socket);
  await once(client, 'data');
  client.destroy();
  open();
  await until('the client to be gone', () => server.clients === 0 && disk.connections === 0);
});

test('serve: closing the server ends all clients', async () => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: MIB });
  disk.before = () => new Promise(() => undefined);
  const { socket, server } = await startDisk(scope, disk);
  const client = openClient(scope, socket);
  client.write(requestBytes({ type: READ, length: 1 }));
  await until('a request', () => disk.operations.length === 1);
  await server.close();
  expect(await readBytes(client)).toBe(HANDSHAKE);
  expect(disk.connections).toBe(0);
});
