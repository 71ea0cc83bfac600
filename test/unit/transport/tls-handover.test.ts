// TLS sessions with real servers that a channel takes over from Node and continues.

import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer as createProxy, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { createServer } from 'node:tls';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ConnectionPool } from '../../../src/client/connection-pool.js';
import { libc } from '../../../src/linux/libc.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../../src/nbd/constants.js';
import { RecordSender } from '../../../src/tls/record-sender.js';
import type { TlsState } from '../../../src/tls/take-over.js';
import { nextSecret } from '../../../src/tls/traffic-keys.js';
import { NegotiatedConnection } from '../../../src/transport/connection.js';
import { DescriptorStream } from '../../../src/transport/descriptor-stream.js';
import { openServer } from '../../../src/transport/server.js';
import type { Target, TlsSettings } from '../../../src/transport/target.js';
import { prepareTls } from '../../../src/transport/tls.js';
import { TlsChannel } from '../../../src/worker/connection/tls-channel.js';
import { ChannelStream } from '../../support/channel-stream.js';
import { createScope } from '../../support/cleanup.js';
import { makePki } from '../../support/run/certificates.js';
import { createPsk } from '../../support/run/images.js';
import { freePort, portOf } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { qemuNbdTls, startNbdkit, startQemuNbd } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

const SIZE = 8 * 1024 * 1024;

let folder: string;
let pki: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tls-handover-test-'));
  pki = makePki(join(folder, 'pki'));
  createPsk(join(folder, 'keys.psk'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function nbdkit(...args: string[]): Promise<Target> {
  const { socket } = await startNbdkit(createScope(), '--tls=require', ...args, 'memory', String(SIZE));
  return { kind: 'unix', path: socket };
}

const nbdkitX509 = (): Promise<Target> => nbdkit('--tls-certificates', pki);

/** qemu-nbd, whose GnuTLS agrees to what `priority` allows only. */
async function qemu(priority: string): Promise<Target> {
  const scope = createScope();
  const disk = scope.path('disk');
  writeFileSync(disk, Buffer.alloc(SIZE));
  const tls = qemuNbdTls(pki, `priority=${priority}`);
  const { socket } = await startQemuNbd(scope, '--format=raw', ...tls, disk);
  return { kind: 'unix', path: socket };
}

/** A connection's socket, as the worker gets it. */
async function takenSocket(target: Target, tls: TlsSettings = { certificates: pki }) {
  const server = await openServer({ target, exportName: '', tls }, { handOver: true });
  const connection = await server.connect();
  return { ...connection.takeSocket(), info: connection.info };
}

function streamOf({ descriptor, tls }: { descriptor: number; tls: TlsState | undefined }): Duplex {
  return tls === undefined
    ? new DescriptorStream(descriptor)
    : new ChannelStream(new TlsChannel(descriptor, tls));
}

/** A TLS server in this process that echoes its input; returns its port. */
async function echoServer(): Promise<number> {
  const [cert, key] = ['server-cert.pem', 'server-key.pem'].map((name) => readFileSync(join(pki, name)));
  const server = createServer({ cert, key }, (peer) => {
    peer.on('error', () => undefined);
    peer.on('data', (chunk) => peer.write(chunk));
  });
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return portOf(server);
}

/** A session with the server on a port of this machine, which a channel may take over. */
async function secured(port: number) {
  const below = connect({ port, host: '127.0.0.1' });
  await once(below, 'connect');
  const upgrade = await prepareTls({ kind: 'tcp', host: 'localhost', port }, { certificates: pki }, true);
  const session = await upgrade.secure(below, AbortSignal.timeout(10_000));
  onTestFinished(() => void session.stream.destroy());
  return { ...session, below };
}

/** Moves 8 MiB in both directions with requests of several sizes, some at a time. */
async function roundTrip(info: NegotiatedConnection['info'], stream: Duplex): Promise<string> {
  const pool = new ConnectionPool(info);
  pool.add(new NegotiatedConnection(info, stream));
  onTestFinished(() => pool.close());
  const payload = Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7) % 251));
  const into = Buffer.alloc(SIZE);
  for (const type of [NBD_CMD_WRITE, NBD_CMD_READ]) {
    const commands: Promise<unknown>[] = [];
    for (let at = 0, length = 1; at < SIZE; at += length, length = Math.min(length * 3 + 1, 1 << 20)) {
      const [from, to] = [at, Math.min(at + length, SIZE)];
      const range = { type, flags: 0, offset: BigInt(from), length: to - from };
      const bytes =
        type === NBD_CMD_READ ? { into: into.subarray(from, to) } : { payload: payload.subarray(from, to) };
      commands.push(pool.submit({ ...range, ...bytes }));
    }
    await Promise.all(commands);
  }
  return into.equals(payload) ? 'same bytes' : 'other bytes';
}

describe('TLS session is handed over to the worker', () => {
  test('with certificates, from nbdkit', async () => {
    const { tls, info, ...socket } = await takenSocket(await nbdkitX509());
    expect(tls).toBeDefined();
    expect(await roundTrip(info, streamOf({ ...socket, tls }))).toBe('same bytes');
  });

  test('with a pre-shared key, from nbdkit', async () => {
    const keys = join(folder, 'keys.psk');
    const settings = { pskFile: keys, username: 'alice' };
    const { tls, info, ...socket } = await takenSocket(await nbdkit('--tls-psk', keys), settings);
    expect(tls).toBeDefined();
    expect(await roundTrip(info, streamOf({ ...socket, tls }))).toBe('same bytes');
  });

  test.each([
    ['AES-128-GCM', 'TLS_AES_128_GCM_SHA256'],
    ['AES-256-GCM', 'TLS_AES_256_GCM_SHA384'],
    ['CHACHA20-POLY1305', 'TLS_CHACHA20_POLY1305_SHA256'],
  ])('with %s, from qemu-nbd', async (cipher, suite) => {
    const target = await qemu(`NORMAL:-CIPHER-ALL:+${cipher}`);
    const { tls, info, ...socket } = await takenSocket(target);
    expect(tls?.suite).toBe(suite);
    expect(await roundTrip(info, streamOf({ ...socket, tls }))).toBe('same bytes');
  });

  test('and changes its keys, which nbdkit follows', async () => {
    const { tls, info, descriptor } = await takenSocket(await nbdkitX509());
    if (tls === undefined) throw new Error('not taken over');
    const sender = new RecordSender(tls.suite, tls.sending);
    sender.wantUpdate();
    sender.updateKeys();
    libc.send(descriptor, sender.pendingAddress, sender.pending, 0);
    sender.close();
    const sending = { secret: nextSecret(tls.suite, tls.sending.secret), sequence: 0 };
    expect(await roundTrip(info, streamOf({ descriptor, tls: { ...tls, sending } }))).toBe('same bytes');
  });
});

test('TLS session is handed over in the middle of a record', async () => {
  // The way from the server can be blocked after nine bytes; the rest passes when it is open again.
  let isCut = false;
  const held: Buffer[] = [];
  const echo = await echoServer();
  const ends: Socket[] = [];
  const proxy = createProxy((client) => {
    const far = connect({ port: echo, host: '127.0.0.1' });
    ends.push(client, far);
    client.pipe(far);
    far.on('data', (chunk: Buffer) => {
      client.write(isCut ? chunk.subarray(0, 9) : chunk);
      if (isCut) held.push(chunk.subarray(9));
    });
  });
  onTestFinished(() => {
    for (const end of ends) end.destroy();
    proxy.close();
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  const { stream, handover, below } = await secured(portOf(proxy));
  stream.write('first');
  expect(String((await once(stream, 'data'))[0])).toBe('first');
  stream.pause();
  isCut = true;
  const before = below.bytesRead;
  stream.write('second');
  await until('the beginning of the record', () => below.bytesRead === before + 9);
  const taken = handover?.take();
  expect(taken?.tls.begun.length).toBe(9);
  if (taken === undefined) throw new Error('not taken over');
  const channel = streamOf(taken);
  onTestFinished(() => void channel.destroy());
  isCut = false;
  ends[0].write(Buffer.concat(held));
  expect(String((await once(channel, 'data'))[0])).toBe('second');
  channel.write('third');
  expect(String((await once(channel, 'data'))[0])).toBe('third');
});

describe('TLS session stays with Node, and is pumped', () => {
  test('with TLS 1.2', async () => {
    const { tls, info, descriptor } = await takenSocket(await qemu('NORMAL:-VERS-TLS1.3'));
    expect(tls).toBeUndefined();
    expect(await roundTrip(info, streamOf({ descriptor, tls }))).toBe('same bytes');
  });

  test('with unread data from the server', async () => {
    const { stream, handover } = await secured(await echoServer());
    const written = new Promise((resolve) => {
      stream.write('echo', resolve);
    });
    await Promise.all([once(stream, 'readable'), written]);
    expect(handover?.take()).toBeUndefined();
    expect(String(stream.read())).toBe('echo');
    // The hand-over was refused for good, and the session continues as before.
    expect(handover?.take()).toBeUndefined();
    stream.write('again');
    await once(stream, 'readable');
    expect(String(stream.read())).toBe('again');
  });

  test('without a receiver', async () => {
    const server = await openServer({
      target: await nbdkitX509(),
      exportName: '',
      tls: { certificates: pki },
    });
    const connection = await server.connect();
    const { tls, descriptor } = connection.takeSocket();
    expect(tls).toBeUndefined();
    expect(await roundTrip(connection.info, streamOf({ descriptor, tls }))).toBe('same bytes');
  });
});

test('TLS session: openssl s_server changes keys and requests ours, again and again', async () => {
  const scope = createScope();
  const port = await freePort();
  const [cert, key] = ['server-cert.pem', 'server-key.pem'].map((name) => join(pki, name));
  // It reports its commands through a buffer, which is line buffered only on request.
  const words = [
    '-oL',
    'openssl',
    's_server',
    '-accept',
    String(port),
    '-cert',
    cert,
    '-key',
    key,
    '-tls1_3',
  ];
  const server = new Program(scope, 'stdbuf', words, { stdio: ['pipe', 'pipe', 'pipe'] });
  const type = (text: string): unknown => server.child.stdin?.write(text);
  await server.says(/ACCEPT/);
  const { stream, handover } = await secured(port);
  stream.write('hello\n');
  await server.says(/hello/);
  type('greetings\n');
  expect(String((await once(stream, 'data'))[0])).toBe('greetings\n');
  const taken = handover?.take();
  if (taken === undefined) throw new Error('not taken over');
  const channel = new ChannelStream(new TlsChannel(taken.descriptor, taken.tls), 3);
  scope.add(() => channel.destroy());
  const lines = createInterface(channel)[Symbol.asyncIterator]();
  // The commands of s_server: k changes its keys, K has us change ours, too, Q ends in order.
  for (const [i, command] of ['k', 'K', 'K', 'k'].entries()) {
    type(`${command}\n`);
    await server.says(new RegExp(`(SSL_do_handshake -> 1[^]*){${i + 1}}`));
    type(`after ${command}${i}\n`);
    expect((await lines.next()).value).toBe(`after ${command}${i}`);
    channel.write(`told ${command}${i}\n`);
    await server.says(new RegExp(`told ${command}${i}`));
  }
  type('Q\n');
  expect((await lines.next()).done).toBe(true);
  expect(channel.errored).toBeNull();
});
