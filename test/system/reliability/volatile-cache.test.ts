// A server that loses unflushed writes: nbdfuse sends acknowledged writes again in their order, and nothing
// else before. The server is scripted, so that a test can delay the moment at which nbdfuse sees its crash.

import { constants, existsSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { whenConnected } from '../../support/connected.js';
import { openFile } from '../../support/files.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_WRITE, NBD_EIO } from '../../support/nbd-numbers.js';
import { descendant } from '../../support/run/descendants.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { until } from '../../support/run/until.js';
import { type ScriptedServer, startScriptedServer } from '../../support/scripted-server.js';
import { MULTI_CONN_FLAGS, VolatileDisk } from '../../support/volatile-disk.js';

requirePrograms('getfattr');

const MIB = 1024 * 1024;
const BLOCK = 4096;

interface World {
  readonly model: VolatileDisk;
  readonly server: ScriptedServer;
  readonly disk: MountedDisk;
  readonly file: FileHandle;
}

async function createWorld(scope: Scope, size: number, ...options: readonly string[]): Promise<World> {
  const model = new VolatileDisk(size);
  const served = { size: BigInt(size), flags: MULTI_CONN_FLAGS };
  const server = await startScriptedServer(scope, served, model.handle);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none', ...options] });
  // nbdfuse does not use a connection made during writes before a FLUSH.
  await whenConnected(disk, options);
  return { model, server, disk, file: await openFile(scope, disk.file, 'r+') };
}

/** A block that contains its place and its age. */
function block(at: number, age: number): Buffer {
  return Buffer.alloc(BLOCK, `block ${at} age ${age}; `);
}

async function write(file: FileHandle, at: number, age: number): Promise<void> {
  await file.write(block(at, age), 0, BLOCK, at * BLOCK);
}

/** Writes side by side until every connection has had a part of it. */
async function writeOnAll({ model, file }: World, connections: number): Promise<number> {
  let count = 0;
  while (model.connections.length < connections) {
    await Promise.all([0, 1, 2, 3].map((i) => write(file, count + i, 1)));
    count += 4;
  }
  return count;
}

it('unflushed writes: after a crash nbdfuse sends all again before anything else', async () => {
  const scope = createScope();
  const { model, server, file } = await createWorld(scope, MIB);
  for (let at = 0; at < 8; at++) await write(file, at, 1);
  await file.sync();
  for (let at = 4; at < 12; at++) await write(file, at, 2);
  model.crash(server.clients);
  server.die();
  await server.listen();
  await write(file, 100, 3);
  const sent = model.log.map(({ type, offset }) =>
    type === NBD_CMD_WRITE ? Number(offset) / BLOCK : 'flush',
  );
  expect(sent.slice(0, 8).sort()).toEqual([4, 5, 6, 7, 8, 9, 10, 11].sort());
  expect(sent.slice(8).filter((one) => one !== 'flush')).toEqual([100]);
  await file.sync();
  for (let at = 0; at < 12; at++) {
    const expected = block(at, at < 4 ? 1 : 2);
    expect(model.stable.subarray(at * BLOCK, (at + 1) * BLOCK).equals(expected), `block ${at}`).toBe(true);
  }
});

it('unflushed writes: a failed FLUSH of nbdfuse shows at the next fsync, once, and causes no storm of FLUSHes', async () => {
  const scope = createScope();
  const model = new VolatileDisk(16 * MIB);
  const flushes: number[] = [];
  let isGood = false;
  const server = await startScriptedServer(
    scope,
    { size: 16n * 1024n * 1024n, flags: MULTI_CONN_FLAGS },
    (request, reply) => {
      if (request.type === NBD_CMD_FLUSH) flushes.push(performance.now());
      if (request.type === NBD_CMD_FLUSH && !isGood) reply.error(NBD_EIO, 'the medium is gone');
      else model.handle(request, reply);
    },
  );
  const options = ['--cache=none', '-C', '1'];
  const { program, file: path } = await mountDisk(scope, { server: [server.uri], options });
  const file = await openFile(scope, path, 'r+');
  const start = performance.now();
  for (let i = 0; i < 32; i++) await file.write(Buffer.alloc(MIB, i), 0, MIB, (i % 16) * MIB);
  expect(flushes.length).toBeGreaterThan(0);
  expect(flushes.length).toBeLessThan(3 + (performance.now() - start) / 1000);
  expect(program.stderr.match(/failed to flush writes \(EIO\): some writes may be lost/g)).toHaveLength(1);
  isGood = true;
  await expect(file.sync()).rejects.toThrow(/EIO/);
  await file.sync();
});

it('unflushed writes: are sent again if the server restarts before nbdfuse sees all its connections lost', async () => {
  const scope = createScope();
  const world = await createWorld(scope, MIB, '-C', '2');
  const { model, server, file } = world;
  const count = await writeOnAll(world, 2);
  const [first] = model.connections;
  model.crash(server.clients);
  model.cut(first);
  // Nothing proves that the new connection leads to the same server.
  await until('the new connection', () => server.clients.length === 3);
  const syncing = file.sync();
  await until('a flush on the old connection', () =>
    server.requests.some(({ type, connection }) => type === NBD_CMD_FLUSH && connection !== 2),
  );
  expect(model.log).toEqual([]);
  for (const connection of model.dead) model.cut(connection);
  await syncing;
  for (let at = 0; at < count; at++) {
    expect(model.stable.subarray(at * BLOCK, (at + 1) * BLOCK).equals(block(at, 1)), `block ${at}`).toBe(
      true,
    );
  }
});

it('unflushed writes: after the loss of one connection of several nothing is sent twice', async () => {
  const scope = createScope();
  const world = await createWorld(scope, MIB, '-C', '2');
  const { model, server, file } = world;
  await writeOnAll(world, 2);
  model.log = [];
  model.cut(model.connections[0]);
  await until('the new connection', () => server.clients.length === 3);
  await until('the flush that tells that the server is the same', () =>
    model.log.some(({ type }) => type === NBD_CMD_FLUSH),
  );
  expect(model.log.filter(({ type }) => type === NBD_CMD_WRITE)).toEqual([]);
  let at = 128;
  while (!model.log.some(({ connection }) => connection === 2)) {
    await Promise.all([0, 1, 2, 3].map((i) => write(file, at + i, 1)));
    at += 4;
  }
});

it('unflushed writes: a repeated older one does not undo a stable write', async () => {
  const scope = createScope();
  const { model, server, disk, file } = await createWorld(scope, MIB);
  await write(file, 0, 1);
  const stable = await openFile(scope, disk.file, constants.O_RDWR | constants.O_DSYNC);
  await write(stable, 0, 2);
  const last = model.log.at(-1);
  expect(last).toMatchObject({ type: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_FUA });
  // Stable means that a crash leaves it.
  model.cached.copy(model.stable);
  model.crash(server.clients);
  server.die();
  await server.listen();
  const { buffer } = await file.read(Buffer.alloc(BLOCK), 0, BLOCK, 0);
  expect(buffer.equals(block(0, 2))).toBe(true);
});

it('unflushed writes: beyond 8 MiB nbdfuse sends a FLUSH without an fsync, where FLUSHes are quick', async () => {
  const scope = createScope();
  const { model, server, file } = await createWorld(scope, 128 * MIB);
  const data = Buffer.alloc(MIB, 'x');
  for (let i = 0; i < 7; i++) await file.write(data, 0, MIB, i * MIB);
  expect(model.log.some(({ type }) => type === NBD_CMD_FLUSH)).toBe(false);
  for (let i = 7; i < 70; i++) await file.write(data, 0, MIB, i * MIB);
  await until('the flush', () => model.log.some(({ type }) => type === NBD_CMD_FLUSH));
  model.crash(server.clients);
  server.die();
  await server.listen();
  await file.sync();
  expect(model.stable.subarray(0, 70 * MIB).equals(Buffer.alloc(70 * MIB, 'x'))).toBe(true);
});

it('unflushed writes: beyond the limit the next fsync fails once, and the log says why', async () => {
  const scope = createScope();
  const { model, server, disk, file } = await createWorld(scope, 256 * MIB);
  const data = Buffer.alloc(MIB, 'x');
  model.holdsFlushes = true;
  for (let i = 0; i < 140; i++) await file.write(data, 0, MIB, i * MIB);
  model.crash(server.clients);
  model.holdsFlushes = false;
  server.die();
  await server.listen();
  await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
  await file.sync();
  expect(disk.stderr).toMatch(/the server was lost with more unflushed writes than nbdfuse keeps/);
});

it('unflushed writes: nbdfuse keeps none for a server that cannot flush', async () => {
  const scope = createScope();
  const model = new VolatileDisk(160 * MIB);
  const served = { size: BigInt(160 * MIB), flags: 0b1 };
  const server = await startScriptedServer(scope, served, model.handle);
  const disk = await mountDisk(scope, { server: [server.uri], options: ['--cache=none'] });
  const file = await openFile(scope, disk.file, 'r+');
  const data = Buffer.alloc(MIB, 'x');
  for (let i = 0; i < 150; i++) await file.write(data, 0, MIB, i * MIB);
  model.log = [];
  model.crash(server.clients);
  server.die();
  await server.listen();
  await write(file, 3, 1);
  await file.sync();
  expect(model.log).toHaveLength(1);
});

it('unflushed writes: a write that a hung server may still make delays newer ones, and nothing else', async () => {
  const scope = createScope();
  const { model, server, disk, file } = await createWorld(scope, MIB, '--timeout=0.3', '-C', '1');
  let answer: (() => void) | undefined;
  let hanging: Socket | undefined;
  server.handler = (request, reply) => {
    if (request.connection > 0 || request.type !== NBD_CMD_WRITE) return model.handle(request, reply);
    answer = () => model.handle(request, reply);
    hanging = reply.socket;
  };
  const writing = write(file, 0, 1);
  await disk.program.says(/the server has not answered for 0\.3 s/);
  // nbdfuse sends it again, and also writes that do not overlap it.
  await writing;
  await write(file, 1, 1);
  let isWritten = false;
  const newer = write(file, 0, 2).then(() => {
    isWritten = true;
  });
  // Only waiting shows that no request arrives.
  await pause(400);
  expect(isWritten).toBe(false);
  expect(model.cached.subarray(0, BLOCK).equals(block(0, 1))).toBe(true);
  // Now the server executes the first copy.
  answer?.();
  await newer;
  expect(model.cached.subarray(0, BLOCK).equals(block(0, 2))).toBe(true);
  await until('the end of the connection that was given up', () => hanging?.destroyed === true);
});

it('--timeout: an idle time beyond it does not lose the server', async () => {
  const scope = createScope();
  const { server, file } = await createWorld(scope, MIB, '--timeout=0.2', '-C', '1');
  await write(file, 0, 1);
  await pause(600);
  await write(file, 1, 1);
  expect(server.clients).toHaveLength(1);
});

it('unflushed writes: no write is lost when a server is replaced while some connections stay open', async () => {
  const scope = createScope();
  const { model, server, file } = await createWorld(scope, 4 * MIB, '-C', '4', '--settle-time=0');
  const ages = new Map<number, number>();
  let stopped = false;
  const writeOn = async (first: number): Promise<void> => {
    for (let age = 1; !stopped; age++) {
      const at = first + Math.floor(Math.random() * 64);
      await write(file, at, age);
      ages.set(at, age);
      if (Math.random() < 0.05) await file.sync();
    }
  };
  const writers = [0, 100, 200].map(writeOn);
  for (let crash = 0; crash < 6; crash++) {
    await pause(50 + 150 * Math.random());
    model.crash(server.clients);
    for (const connection of model.dead) {
      await pause(60 * Math.random());
      model.cut(connection);
    }
  }
  stopped = true;
  let isOver = false;
  const over = Promise.all(writers)
    .then(() => file.sync())
    .finally(() => {
      isOver = true;
    });
  await until('the end of the writers', () => {
    for (const connection of model.dead) model.cut(connection);
    return isOver;
  });
  await over;
  for (const [at, age] of ages) {
    const there = model.stable.subarray(at * BLOCK, (at + 1) * BLOCK);
    expect(there.toString('utf8', 0, 20)).toBe(block(at, age).toString('utf8', 0, 20));
  }
  expect(server.clients.length).toBeGreaterThan(8);
});

it('unflushed writes: a cache file has none of them that the server loses with the mount', async () => {
  const scope = createScope();
  const options = [`--cache-file=${scope.path('cache')}`];
  const { model, server, disk, file } = await createWorld(scope, MIB, ...options);
  await write(file, 0, 1);
  await file.sync();
  model.holdsFlushes = true;
  await write(file, 0, 2);
  // So the chunk server has it, and would have it in its cache file after an end in order.
  const read = await file.read(Buffer.alloc(BLOCK), 0, BLOCK, 0);
  expect(read.buffer.equals(block(0, 2))).toBe(true);
  const chunkServer = await descendant(disk.program.pid, /nbdfuse-chunks --coding/);
  await disk.program.kill('SIGKILL');
  await until('the end of the chunk server', () => !existsSync(`/proc/${chunkServer.pid}`));
  model.crash(server.clients);
  model.holdsFlushes = false;
  const next = await mountDisk(scope, { server: [server.uri], options: ['--cache=none', ...options] });
  const again = await (await openFile(scope, next.file, 'r')).read(Buffer.alloc(BLOCK), 0, BLOCK, 0);
  expect(again.buffer.equals(block(0, 1))).toBe(true);
});
