// The library with real servers that are killed and started again, and with connections that are cut.

import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readlinkSync, truncateSync } from 'node:fs';
import { expect, test } from 'vitest';
import { NbdClient, type NbdError, openServer } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { CuttingProxy } from '../../support/run/cutting-proxy.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit, startQemuNbd } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { connect } from '../../unit/client/support.js';

requirePrograms('qemu-nbd', 'nbdkit');

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'resolved',
    (error: NbdError) => error.code,
  );

const pattern = (byte: number): Buffer => Buffer.alloc(4096, byte);

/** The pidfds of this process. */
const pidfds = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('pidfd');
    } catch {
      return false;
    }
  }).length;

test('a killed qemu-nbd: the end of its process allows newer writes of bytes that were in flight', async () => {
  const scope = createScope();
  const disk = scope.path('disk.raw');
  closeSync(openSync(disk, 'w'));
  truncateSync(disk, 2 ** 20);
  const first = await startQemuNbd(scope, '-f', 'raw', disk);
  const before = pidfds();
  const client = await connect({ unix: first.socket }, { reconnect: 60 });
  expect(pidfds()).toBeGreaterThan(before);
  await client.write(8192, pattern(1));
  first.program.child.kill('SIGSTOP');
  const writing = codeOf(client.write(0, pattern(2)));
  const reading = client.read(8192, 4096);
  const events: string[] = [];
  for (const name of ['lost', 'reconnecting', 'reconnected'] as const)
    client.on(name, () => events.push(name));
  const lost = once(client, 'lost');
  first.program.child.kill('SIGKILL');
  await lost;
  expect(await writing).toBe('ERR_NBD_CHANGE_UNKNOWN');
  const waiting = codeOf(client.write(0, pattern(3)));
  await first.program.ended;
  await startQemuNbd(scope, '-f', 'raw', disk);
  expect((await reading).equals(pattern(1))).toBe(true);
  expect(await waiting).toBe('resolved');
  expect(await codeOf(client.flush())).toBe('ERR_NBD_UNFLUSHED_LOST');
  await client.flush();
  expect((await client.read(0, 4096)).equals(pattern(3))).toBe(true);
  expect(events).toEqual(['lost', 'reconnecting', 'reconnected']);
  await client.close();
  expect(pidfds()).toBe(before);
}, 60_000);

test('a server that lives: newer writes of bytes in flight on a cut connection are refused until the settle time', async () => {
  const scope = createScope();
  const { socket } = await startNbdkit(scope, '--filter=delay', 'memory', '1M', 'wdelay=300ms');
  const path = scope.path('proxy');
  const proxy = await CuttingProxy.open(scope, path, { path: socket });
  const client = await connect({ unix: path }, { connections: 3, reconnect: 60, settleTime: 1 });
  const writes = [0, 1, 2].map((i) => codeOf(client.write(i * 4096, pattern(i))));
  await client.read(65_536, 4096);
  const lost = once(client, 'lost');
  proxy.cut(1);
  const [, left] = await lost;
  expect(left).toBe(2);
  const results = await Promise.all(writes);
  expect(results.filter((result) => result === 'ERR_NBD_CHANGE_UNKNOWN')).toHaveLength(1);
  const at = results.indexOf('ERR_NBD_CHANGE_UNKNOWN') * 4096;
  expect(await codeOf(client.write(at, pattern(9)))).toBe('ERR_NBD_RANGE_IN_DOUBT');
  await client.write(65_536, pattern(9));
  await client.flush();
  await until('three connections', () => client.connections === 3);
  await until('the settle time', async () => (await codeOf(client.write(at, pattern(9)))) === 'resolved');
  expect((await client.read(at, 4096)).equals(pattern(9))).toBe(true);
}, 60_000);

test('random reads and writes over connections that are cut: no byte is wrong', async () => {
  const scope = createScope();
  const { socket } = await startNbdkit(scope, '--filter=delay', 'memory', '64K', 'wdelay=2ms', 'rdelay=1ms');
  const path = scope.path('proxy');
  const proxy = await CuttingProxy.open(scope, path, { path: socket });
  const options = { connections: 3, reconnect: Number.POSITIVE_INFINITY, settleTime: 0.3 };
  const client = await connect({ unix: path }, options);
  /** The values that each block may have. */
  const blocks = Array.from({ length: 16 }, () => new Set([0]));
  const counts: Record<string, number> = {};
  let next = 1;
  const end = performance.now() + 5000;
  /** One user of a block: writes and reads it by turns. */
  const use = async (allowed: Set<number>, block: number): Promise<void> => {
    while (performance.now() < end) {
      const byte = (next++ % 255) + 1;
      const code = await codeOf(client.write(block * 4096, pattern(byte)));
      counts[code] = (counts[code] ?? 0) + 1;
      if (code === 'resolved') allowed.clear();
      if (code !== 'ERR_NBD_RANGE_IN_DOUBT') allowed.add(byte);
      const bytes = await client.read(block * 4096, 4096);
      expect(allowed.has(bytes[0]), `block ${block} has ${bytes[0]}, not ${[...allowed]}`).toBe(true);
      expect(bytes.equals(pattern(bytes[0]))).toBe(true);
    }
  };
  // Connections that live for a second or more are replaced at once.
  const cuts = setInterval(() => proxy.cut(Math.random() < 0.5 ? 3 : 1), 1100);
  scope.add(() => clearInterval(cuts));
  await Promise.all(blocks.map(use));
  clearInterval(cuts);
  expect(Object.keys(counts).sort()).toEqual([
    'ERR_NBD_CHANGE_UNKNOWN',
    'ERR_NBD_RANGE_IN_DOUBT',
    'resolved',
  ]);
}, 60_000);

test('a child that serves on: the client connects to it again, and closes when it has ended', async () => {
  const scope = createScope();
  const disk = scope.path('disk.raw');
  closeSync(openSync(disk, 'w'));
  truncateSync(disk, 2 ** 20);
  const argv = ['qemu-nbd', '--persistent', '-f', 'raw', disk];
  const server = await openServer({ target: { kind: 'socket-activation', argv }, exportName: '' });
  scope.add(() => server.close());
  const client = await NbdClient.over(server, { reconnect: 60 });
  scope.add(() => client.close());
  expect((await client.read(0, 4096)).equals(pattern(0))).toBe(true);
  const closed = once(client, 'close');
  process.kill(server.group ?? 0, 'SIGKILL');
  const waiting = codeOf(client.read(0, 4096));
  const [reason] = await closed;
  expect(reason.message).toMatch(/^the connection to the server was lost: qemu-nbd was killed by SIGKILL/);
  expect(await waiting).toBe('ENOTCONN');
  expect(await client.closed).toBe(reason);
}, 60_000);
