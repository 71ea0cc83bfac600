import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { addressOf, libc } from '../../../src/linux/libc.js';
import { connectTcp, portNumber } from '../../../src/transport/tcp.js';
import { freePort, portOf } from '../../support/run/ports.js';

const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const SOL_SOCKET = 1;
const SO_KEEPALIVE = 9;

async function listenOn(host: string): Promise<number> {
  const server = createServer();
  onTestFinished(() => {
    server.close();
  });
  server.listen(0, host);
  await once(server, 'listening');
  return portOf(server);
}

function option(fd: number, level: number, name: number): number {
  const value = new Int32Array(1);
  const length = new Uint32Array([4]);
  libc.getsockopt(fd, level, name, addressOf(value), addressOf(length));
  return value[0];
}

describe('connectTcp', () => {
  test('sets TCP_NODELAY and keepalive on the connection', async () => {
    const socket = await connectTcp('127.0.0.1', await listenOn('127.0.0.1'));
    onTestFinished(() => {
      socket.destroy();
    });
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    expect(option(fd, IPPROTO_TCP, TCP_NODELAY)).toBe(1);
    expect(option(fd, SOL_SOCKET, SO_KEEPALIVE)).toBe(1);
  });

  test.each(['127.0.0.1', '::1'])(
    'reaches a server that listens on %s only through the address',
    async (host) => {
      const socket = await connectTcp(host, await listenOn(host));
      expect(socket.remoteAddress).toBe(host);
      socket.destroy();
    },
  );

  test('tries every address of a name until one answers', async () => {
    // localhost has an IPv4 and often an IPv6 address; the server listens on one of them.
    const socket = await connectTcp('localhost', await listenOn('127.0.0.1'));
    expect(socket.remoteAddress).toBe('127.0.0.1');
    socket.destroy();
  });

  test('asks for the interface of a link-local address', async () => {
    await expect(connectTcp('fe80::1', 9)).rejects.toThrow(
      'a link-local address needs its interface: fe80::1%eth0, and in a URI [fe80::1%25eth0]',
    );
  });

  test('reports a refused connection, its address, and the next step', async () => {
    const port = await freePort();
    await expect(connectTcp('127.0.0.1', port)).rejects.toThrow(
      `cannot connect to 127.0.0.1:${port}: connection refused; is the server running, and on this port?`,
    );
  });

  test('reports an unknown host', async () => {
    await expect(connectTcp('no-such-host.invalid', 1)).rejects.toThrow(
      /^cannot find the host no-such-host.invalid: /,
    );
  });

  test('rejects with the reason of its signal', async () => {
    await expect(connectTcp('127.0.0.1', 1, AbortSignal.abort('enough'))).rejects.toBe('enough');
  });
});

describe('portNumber', () => {
  test('accepts numbers, digits and names of services', async () => {
    expect(await portNumber(10809)).toBe(10809);
    expect(await portNumber('10809')).toBe(10809);
  });

  test.each(['0', '65536', '-1', '12x', '', 'no-such-service'])('refuses %j', async (port) => {
    await expect(portNumber(port)).rejects.toThrow(/^bad port/);
  });
});
