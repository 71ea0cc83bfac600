// The control socket from the chunk server to nbdfuse.

import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import type { ChunkStatus, ControlLine, KeptImage, Writers } from '../../../../src/chunks/contract/status.js';
import { startControl } from '../../../../src/chunks/serve/control.js';
import { parseChunkStatus, parseKept, parseWriters } from '../../../../src/chunks/status/parse.js';
import { readWriters, watchChunkStatus } from '../../../../src/chunks/status/watch.js';
import { AF_UNIX, closeDescriptor, openSocket, SOCK_STREAM } from '../../../../src/linux/socket.js';
import { listenUnix } from '../../../../src/linux/unix-socket.js';
import { createScope, type Scope } from '../../../support/cleanup.js';
import { until } from '../../../support/run/until.js';

const STATUS: ChunkStatus = {
  size: 1024,
  memory: { used: 1, limit: 2 },
  file: { path: '/cache', used: 3, limit: undefined, complete: false },
  indexing: { done: 4, all: 5 },
  prefetch: undefined,
  hits: 6,
  misses: 7,
  fetched: 8,
};

const WRITERS: Writers = { pids: [2], groups: [30, 4000] };

const KEPT: KeptImage = { nonce: '00ff00ff00ff00ff', size: 1000, offset: 10 };

const LINE: ControlLine = { ...STATUS, writers: WRITERS, kept: KEPT };

/** A control socket whose state the test changes. */
async function startedControl(scope: Scope, path = scope.path('control')) {
  const state = { hits: 0 };
  const control = await startControl(path, () => ({ ...LINE, hits: state.hits }));
  scope.add(() => control.close());
  return { control, path, state };
}

const never = new AbortController().signal;

test('control socket: a client gets the state, and news after a change', async () => {
  const scope = createScope();
  const { control, path, state } = await startedControl(scope);
  const stop = new AbortController();
  const found: ChunkStatus[] = [];
  const kept: unknown[] = [];
  const take = (status: ChunkStatus, image: KeptImage | undefined): void => {
    found.push(status);
    kept.push(image);
  };
  const watching = watchChunkStatus(path, take, stop.signal);
  await until('the first line', () => found.length === 1);
  expect(kept).toEqual([KEPT]);
  expect(found).toEqual([{ ...STATUS, hits: 0 }]);
  for (state.hits = 1; state.hits < 100; state.hits++) control.changed();
  await until('the second line', () => found.length === 2);
  expect(found[1].hits).toBe(100);
  stop.abort();
  await watching;
});

test('control socket: a server that ends before it accepts is no error', async () => {
  const scope = createScope();
  const fd = openSocket(AF_UNIX, SOCK_STREAM);
  listenUnix(fd, scope.path('control'));
  const watching = watchChunkStatus(scope.path('control'), () => undefined, never);
  // The watcher connects at once; the end of the socket resets the connection.
  setImmediate(() => closeDescriptor(fd));
  await watching;
});

test('control socket: sends at most two lines a second', async () => {
  const scope = createScope();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  scope.add(() => vi.useRealTimers());
  const { control, path } = await startedControl(scope);
  const client = connect(path);
  scope.add(() => client.destroy());
  let lines = 0;
  client.on('data', (bytes) => {
    lines += bytes.toString().split('\n').length - 1;
    client.emit('line');
  });
  await once(client, 'line');
  for (let second = 0; second < 3; second++) {
    for (let i = 0; i < 100; i++) {
      control.changed();
      const news = i % 50 === 49 ? once(client, 'line') : undefined;
      vi.advanceTimersByTime(10);
      await news;
    }
  }
  expect(lines).toBe(7);
});

test('control socket: a client that does not read does not delay the others', async () => {
  const scope = createScope();
  const { control, path } = await startedControl(scope);
  const idle = connect(path).pause();
  scope.add(() => idle.destroy());
  await once(idle, 'connect');
  const found: ChunkStatus[] = [];
  void watchChunkStatus(path, (status) => found.push(status), never);
  await until('the first line', () => found.length === 1);
  for (let i = 0; i < 1000; i++) control.changed();
  await until('the second line', () => found.length === 2);
});

test('control socket: has a path of any length, replaces an old one, and is removed', async () => {
  const scope = createScope();
  mkdirSync(scope.path('d'.repeat(120)));
  const path = scope.path('d'.repeat(120), 'control');
  await (await startControl(path, () => LINE)).close();
  expect(existsSync(path)).toBe(false);
  await startedControl(scope, path);
  const { control } = await startedControl(scope, path);
  const found: ChunkStatus[] = [];
  const watching = watchChunkStatus(path, (status) => found.push(status), never);
  await until('a line', () => found.length === 1);
  await control.close();
  await watching;
});

test('control socket: watching ends when there is none', async () => {
  await watchChunkStatus(createScope().path('none'), () => undefined, never);
});

test.each([
  ['no JSON', '{\n'],
  ['a list', '[]\n'],
  ['a negative number', `${JSON.stringify({ ...STATUS, hits: -1 })}\n`],
  ['a text for a number', `${JSON.stringify({ ...STATUS, memory: { used: '1', limit: 2 } })}\n`],
  ['an endless line', 'x'.repeat(70_000)],
])('control socket: watching ends after %s', async (_, text) => {
  const scope = createScope();
  const sockets: Socket[] = [];
  const server = createServer(
    (socket) => sockets.push(socket.on('error', () => undefined)) && socket.write(text),
  );
  server.listen(scope.path('bad'));
  scope.add(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await once(server, 'listening');
  const onStatus = vi.fn();
  await watchChunkStatus(scope.path('bad'), onStatus, never);
  expect(onStatus).not.toHaveBeenCalled();
});

test('control socket: a state survives its line, and unknown fields are ignored', () => {
  expect(parseChunkStatus(JSON.stringify({ ...STATUS, later: [1] }))).toEqual(STATUS);
  const least = { memory: STATUS.memory, hits: 0, misses: 0, fetched: 0 };
  expect(parseChunkStatus(JSON.stringify(least))).toEqual({
    ...least,
    size: undefined,
    file: undefined,
    indexing: undefined,
    prefetch: undefined,
  });
});

test('control socket: no JSON makes parsing throw', () => {
  const field = fc.oneof(fc.jsonValue(), fc.nat(), fc.record({ done: fc.nat(), all: fc.nat() }));
  const names = ['size', 'memory', 'file', 'indexing', 'prefetch', 'hits', 'misses', 'fetched'];
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...names), field)), (value) => {
      parseChunkStatus(JSON.stringify(value) ?? '');
    }),
  );
});

test('control socket: names the processes that carry out changes', async () => {
  const scope = createScope();
  const { path } = await startedControl(scope);
  expect(await readWriters(path, never)).toEqual(WRITERS);
  expect(await readWriters(scope.path('none'), never)).toBeUndefined();
});

test.each([
  ['none', undefined],
  ['a number for a list', { pids: 1, groups: [] }],
  ['a list alone', { pids: [2] }],
  ['the first process', { pids: [1], groups: [] }],
  ['our own group', { pids: [], groups: [0] }],
])('control socket: takes no processes from %s', (_, writers) => {
  expect(parseWriters(JSON.stringify({ ...STATUS, writers }))).toBeUndefined();
});

test.each([
  ['no hexadecimal nonce', { nonce: '00ff00ff00ff00fg' }],
  ['a short nonce', { nonce: '00ff' }],
  ['an empty image', { size: 0, offset: 0 }],
  ['a huge image', { size: 2 ** 51 }],
  ['a disk behind the image', { offset: 1000 }],
  ['a negative place', { offset: -1 }],
])('control socket: a cache file with %s is not offered', (_, wrong) => {
  expect(parseKept(JSON.stringify({ kept: KEPT }))).toEqual(KEPT);
  expect(parseKept(JSON.stringify({ kept: { ...KEPT, ...wrong } }))).toBeUndefined();
});
