// READs that the worker answers from the cache file of a mounted image: right bytes whatever happens to the file, the
// chunk server or the image, and a chunk server that learns of them.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { O_DIRECT } from '../../../src/constants/open-flags.js';
import type { Status } from '../../../src/worker/contract/status.js';
import { storedStream } from '../../support/chunks/stored-xz.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { type FaultyWebServer, startFaultyWebServer } from '../../support/faulty-web-server.js';
import { openFile } from '../../support/files.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { descendant } from '../../support/run/descendants.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('nbdkit', 'ps', 'sfdisk', 'umount');
requireRoot();

const BLOCK = 4096;
const PART = 64 * 1024;
const UNIT = 4 * PART;
/** Bytes of the last part, which is shorter. */
const LAST = 3 * BLOCK;
/** Units of the image. So far from each other, reads are no stream that is read ahead, so the cache is never complete. */
const UNITS = 97;
const APART = 12;
const SIZE = (UNITS - 1) * UNIT + LAST;
const BYTES = randomBytes(SIZE);

/** The units that the first mount reads: the first one, the last one, and some between them. */
const KEPT = Array.from({ length: (UNITS - 1) / APART + 1 }, (_, i) => i * APART);

/** Each unit is a block of its own, so that a read brings no other one. */
function packed(bytes: Buffer): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += UNIT) blocks.push(bytes.subarray(at, at + UNIT));
  return storedStream(...blocks);
}

const PACKED = packed(BYTES);

/** A place that is read, and its length. */
type Place = readonly [offset: number, length: number];

/** The last block of a unit. */
const lastOf = (unit: number): number => Math.min(SIZE, (unit + 1) * UNIT) - BLOCK;

/** Blocks of the kept units, none in two parts: the first and last one of the image are among them. */
const BLOCKS: readonly Place[] = KEPT.flatMap((unit) => [
  [unit * UNIT, BLOCK],
  [lastOf(unit), BLOCK],
]);

/** Places in two parts of a unit. */
const ACROSS: readonly Place[] = KEPT.slice(0, -1).map((unit, i) => [
  unit * UNIT + ((i % 3) + 1) * PART - BLOCK,
  2 * BLOCK,
]);

/** A block of each unit from one down to another. */
const backwards = (from: number, to: number): Place[] =>
  Array.from({ length: from - to + 1 }, (_, i) => [(from - i) * UNIT, BLOCK]);

interface World {
  readonly scope: Scope;
  readonly disk: MountedDisk;
  /** The disk, past the page cache. */
  readonly direct: FileHandle;
}

const cacheOf = (scope: Scope): string => scope.path('cache');

async function mountCached(scope: Scope, server: string, ...more: readonly string[]): Promise<World> {
  const options = ['--cache-file', cacheOf(scope), ...more];
  const disk = await mountDisk(scope, { server: [server], options });
  return { scope, disk, direct: await openFile(scope, disk.file, O_DIRECT) };
}

async function unmount({ disk, direct }: World): Promise<void> {
  await direct.close();
  expect(await disk.stop()).toBe(0);
}

/** Reads places. @returns those with other bytes than `bytes` */
async function wrongPlaces(handle: FileHandle, places: readonly Place[], bytes = BYTES): Promise<Place[]> {
  const wrong: Place[] = [];
  for (const [offset, length] of places) {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
    const isRight = buffer.subarray(0, bytesRead).equals(bytes.subarray(offset, offset + length));
    if (!isRight) wrong.push([offset, length]);
  }
  return wrong;
}

async function statusOf({ disk }: World): Promise<Status> {
  const text = await runProgram('node', NBDFUSE, '--status', '--json', disk.mountpoint);
  return JSON.parse(text).files[0];
}

const cacheFileReadsOf = async (world: World): Promise<number> => (await statusOf(world)).cacheFileReads;

/** Reads a block until one of its reads is answered from the cache file. */
async function untilRead(world: World, offset: number, bytes = BYTES): Promise<void> {
  const before = await cacheFileReadsOf(world);
  await until(`a read of the cache file at ${offset}`, async () => {
    expect(await wrongPlaces(world.direct, [[offset, BLOCK]], bytes)).toEqual([]);
    return (await cacheFileReadsOf(world)) > before;
  });
}

/** Makes a cache with the kept units. */
async function fill(scope: Scope, server: string, ...more: readonly string[]): Promise<void> {
  const world = await mountCached(scope, server, ...more);
  expect(await wrongPlaces(world.direct, BLOCKS)).toEqual([]);
  await unmount(world);
}

/** An image in a local file. */
function localImage(scope: Scope, bytes = PACKED): string {
  const path = scope.path('disk.img.xz');
  writeFileSync(path, bytes);
  return path;
}

const webImage = (scope: Scope): Promise<FaultyWebServer> =>
  startFaultyWebServer(scope, PACKED, undefined, 'disk.img.xz');

/** Mounts an image whose cache has the kept units, of which the worker reads at least one from now on. */
async function mountKept(scope: Scope, server: string, ...more: readonly string[]): Promise<World> {
  await fill(scope, server, ...more);
  const world = await mountCached(scope, server, ...more);
  await untilRead(world, APART * UNIT);
  return world;
}

/** Changes bytes of a file where they are. */
function overwrite(path: string, bytes: Buffer, offset: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

/** Turns over each bit of the read blocks of the first `count` kept units. */
function damage(path: string, count: number): void {
  for (const [offset] of BLOCKS.slice(0, 2 * count))
    overwrite(path, Buffer.from(BYTES.subarray(offset, offset + BLOCK).map((byte) => byte ^ 0xff)), offset);
}

const indexOf = (scope: Scope): string => `${cacheOf(scope)}.index`;
const indexSize = (scope: Scope): number => statSync(indexOf(scope)).size;

describe('reads of the cache file', () => {
  it.each(['a local file', 'a web server'])('answer the second mount of an image on %s', async (where) => {
    const scope = createScope();
    const server = where === 'a web server' ? (await webImage(scope)).url : localImage(scope);
    const world = await mountKept(scope, server);
    const before = await cacheFileReadsOf(world);
    expect(await wrongPlaces(world.direct, BLOCKS)).toEqual([]);
    const blocks = await cacheFileReadsOf(world);
    expect(blocks - before).toBe(BLOCKS.length);
    expect(await wrongPlaces(world.direct, ACROSS)).toEqual([]);
    expect(await cacheFileReadsOf(world)).toBe(blocks);
    const ordinary = await openFile(scope, world.disk.file, 'r');
    const odd: readonly Place[] = [
      ...KEPT.slice(0, -1).map((unit): Place => [unit * UNIT + 2 * PART + 777, 1000]),
      [1, 1],
      [SIZE - 1, 1],
      ...ACROSS.map(([offset]): Place => [offset + BLOCK - 500, 1000]),
    ];
    expect(await wrongPlaces(ordinary, odd)).toEqual([]);
    expect(await cacheFileReadsOf(world)).toBeGreaterThan(blocks);
    const beyond = await ordinary.read(Buffer.alloc(BLOCK), 0, BLOCK, SIZE - 10);
    expect(beyond.buffer.subarray(0, beyond.bytesRead).equals(BYTES.subarray(-10))).toBe(true);
    await ordinary.close();
    await unmount(world);
  });

  it('answer for a partition whose blocks lie in two parts of the image', async () => {
    const scope = createScope();
    const [raw, start, sectors] = [scope.path('disk.raw'), 2049, 40_000];
    writeFileSync(raw, BYTES);
    await runShell(`echo "start=${start}, size=${sectors}" | sfdisk --quiet --wipe never "$0"`, raw);
    const server = localImage(scope, packed(readFileSync(raw)));
    const bytes = BYTES.subarray(start * 512, (start + sectors) * 512);
    const blocks = KEPT.slice(1, -2).flatMap((unit): Place[] => {
      const place = unit * UNIT - start * 512;
      return [-1, 0, 1].map((i) => [Math.floor(place / BLOCK + i) * BLOCK, BLOCK]);
    });
    const ends: readonly Place[] = [
      [0, BLOCK],
      [bytes.length - 512, 512],
    ];
    const options = ['--partition=1'];
    const first = await mountCached(scope, server, ...options);
    expect(await wrongPlaces(first.direct, [...ends, ...blocks], bytes)).toEqual([]);
    await unmount(first);
    const world = await mountCached(scope, server, ...options);
    await untilRead(world, blocks[2][0], bytes);
    expect(await wrongPlaces(world.direct, [...ends, ...blocks], bytes)).toEqual([]);
    await unmount(world);
  });

  it.each<[string, (scope: Scope) => void]>([
    ['half of the kept units of FILE are damaged', (scope) => damage(cacheOf(scope), KEPT.length / 2)],
    ['all kept units of FILE are damaged', (scope) => damage(cacheOf(scope), KEPT.length)],
    ['FILE is emptied', (scope) => truncateSync(cacheOf(scope), 0)],
    ['FILE is cut within a part', (scope) => truncateSync(cacheOf(scope), APART * UNIT + 100)],
    ['FILE.index is emptied', (scope) => truncateSync(indexOf(scope), 0)],
    ['FILE.index gets zeros', (scope) => overwrite(indexOf(scope), Buffer.alloc(indexSize(scope)), 0)],
    ['FILE.index gets random bytes', (scope) => overwrite(indexOf(scope), randomBytes(indexSize(scope)), 0)],
    [
      'FILE and FILE.index are removed',
      (scope) => {
        rmSync(cacheOf(scope));
        rmSync(indexOf(scope));
      },
    ],
  ])('have the right bytes when %s during the mount', async (_, change) => {
    const scope = createScope();
    const world = await mountKept(scope, localImage(scope));
    change(scope);
    for (let round = 0; round < 3; round++)
      expect(await wrongPlaces(world.direct, [...BLOCKS, ...ACROSS])).toEqual([]);
    await unmount(world);
  });

  it('find damaged bytes again when the chunk server has replaced them', async () => {
    const scope = createScope();
    const world = await mountKept(scope, localImage(scope));
    damage(cacheOf(scope), KEPT.length);
    expect(await wrongPlaces(world.direct, BLOCKS)).toEqual([]);
    for (const unit of KEPT.slice(0, 3)) await untilRead(world, unit * UNIT);
    expect(world.disk.stderr).toContain(`the cache ${cacheOf(scope)} is damaged at offset 0:`);
    await unmount(world);
  });

  it('begin again after the chunk server was killed', async () => {
    const scope = createScope();
    const world = await mountKept(scope, localImage(scope), '--restart');
    for (let round = 0; round < 2; round++) {
      const { pid } = await descendant(world.disk.program.pid, /bin\/nbdfuse-chunks --coding/);
      process.kill(pid, 'SIGKILL');
      expect(await wrongPlaces(world.direct, [...BLOCKS, ...ACROSS])).toEqual([]);
      expect(await wrongPlaces(world.direct, [[APART * UNIT + UNIT, BLOCK]])).toEqual([]);
      await untilRead(world, 2 * APART * UNIT);
    }
    await unmount(world);
  });

  it('keep their units when the cache has no room for others', async () => {
    const scope = createScope();
    const image = localImage(scope);
    // The least that nbdfuse takes: 64 units.
    const limit = '--cache-size=16M';
    // A trace of its own for each mount: none is replayed.
    const first = await mountCached(scope, image, limit, '--trace', scope.path('trace-1'));
    // Backwards, units are no stream that is read ahead.
    expect(await wrongPlaces(first.direct, backwards(50, 1))).toEqual([]);
    await unmount(first);
    const filled = Math.floor(Date.now() / 1000);
    // The cache knows the second of the last use.
    await until('another second', () => Date.now() / 1000 > filled + 1);
    const world = await mountCached(scope, image, limit, '--trace', scope.path('trace-2'));
    // Those that would go first, by the number or by the time of the first mount.
    const used = [...backwards(50, 49), ...backwards(2, 1)];
    await untilRead(world, 30 * UNIT);
    const { hits = 0 } = (await statusOf(world)).chunks ?? {};
    await until('the chunk server to know of them', async () => {
      expect(await wrongPlaces(world.direct, used)).toEqual([]);
      return ((await statusOf(world)).chunks?.hits ?? 0) >= hits + used.length;
    });
    expect(await wrongPlaces(world.direct, backwards(95, 68))).toEqual([]);
    await untilRead(world, 68 * UNIT);
    const { cacheFileReads, chunks } = await statusOf(world);
    expect(chunks?.file?.used).toBeLessThanOrEqual(64 * UNIT);
    expect(await wrongPlaces(world.direct, used)).toEqual([]);
    expect(await cacheFileReadsOf(world)).toBe(cacheFileReads + used.length);
    // Some of the others have made room.
    expect(await wrongPlaces(world.direct, backwards(48, 3))).toEqual([]);
    expect(await cacheFileReadsOf(world)).toBeLessThan(cacheFileReads + used.length + 46);
    await unmount(world);
  });

  it.each<[string, (world: World) => Promise<unknown>]>([
    ['SIGTERM', ({ disk }) => disk.stop()],
    ['umount', ({ disk }) => runProgram('umount', disk.mountpoint)],
  ])('are in the trace of a mount that %s ends right after them', async (_, end) => {
    const scope = createScope();
    const image = localImage(scope);
    await fill(scope, image);
    const trace = scope.path('trace');
    const world = await mountCached(scope, image, '--trace', trace);
    const order = [5, 3, 7, 2].map((i) => KEPT[i]);
    await untilRead(world, order[0] * UNIT);
    const rest = order.slice(1).map((unit): Place => [unit * UNIT + PART, BLOCK]);
    expect(await wrongPlaces(world.direct, rest)).toEqual([]);
    await world.direct.close();
    await end(world);
    expect(await world.disk.program.ended).toBe(0);
    const bytes = readFileSync(trace).subarray(16);
    const units = Array.from({ length: bytes.length / 4 }, (_unused, i) => bytes.readUInt32LE(4 * i));
    expect(units.filter((unit) => order.includes(unit))).toEqual(order);
  });

  it('are none of a disk that may be written to', async () => {
    const scope = createScope();
    const path = scope.path('disk.raw');
    writeFileSync(path, BYTES);
    const server = await startNbdkit(scope, 'file', path);
    await fill(scope, server.uri());
    const bytes = Buffer.from(BYTES);
    const disk = await mountDisk(scope, {
      server: [server.uri()],
      options: ['--cache=none', '--cache-file', cacheOf(scope)],
    });
    const direct = await openFile(scope, disk.file, 2 | O_DIRECT);
    const world = { scope, disk, direct };
    for (const [offset] of BLOCKS) {
      expect(await wrongPlaces(direct, [[offset, BLOCK]], bytes)).toEqual([]);
      randomBytes(BLOCK).copy(bytes, offset);
      await direct.write(bytes, offset, BLOCK, offset);
      expect(await wrongPlaces(direct, [[offset, BLOCK]], bytes)).toEqual([]);
    }
    expect(await wrongPlaces(direct, [...BLOCKS, ...ACROSS], bytes)).toEqual([]);
    expect(await cacheFileReadsOf(world)).toBe(0);
    await direct.sync();
    await unmount(world);
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it.each(['a local file', 'a web server'])('have the bytes of another image on %s', async (where) => {
    const scope = createScope();
    const other = randomBytes(SIZE);
    const web = await webImage(scope);
    const server = where === 'a web server' ? web.url : localImage(scope);
    await unmount(await mountKept(scope, server));
    const next = packed(other);
    expect(next.length).toBe(PACKED.length);
    if (where === 'a local file') localImage(scope, next);
    web.file = next;
    web.fault = ({ headers }) => {
      headers.ETag = '"b-2"';
    };
    const world = await mountCached(scope, server);
    for (let round = 0; round < 3; round++)
      expect(await wrongPlaces(world.direct, [...BLOCKS, ...ACROSS], other)).toEqual([]);
    await untilRead(world, APART * UNIT, other);
    expect(await wrongPlaces(world.direct, [...BLOCKS, ...ACROSS], other)).toEqual([]);
    await unmount(world);
  });
});
