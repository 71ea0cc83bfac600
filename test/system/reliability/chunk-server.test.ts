// The chunk server is killed: the mount goes on, and an older write never lands on a newer one.

import { execFile } from 'node:child_process';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { Status } from '../../../src/worker/contract/status.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile, readAt } from '../../support/files.js';
import { NBD_CMD_WRITE } from '../../support/nbd-numbers.js';
import { descendant } from '../../support/run/descendants.js';
import { type MountedDisk, mountDisk, NBDFUSE } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { startScriptedServer } from '../../support/scripted-server.js';
import { MULTI_CONN_FLAGS, VolatileDisk } from '../../support/volatile-disk.js';

requirePrograms('nbdkit', 'dd', 'ps');

const run = promisify(execFile);

const MIB = 1024 * 1024;
const BLOCK = 65_536;

const CHUNK_SERVER = /bin\/nbdfuse-chunks --coding/;

/** Kills the chunk server of a mount. @returns its process */
async function killChunkServer({ program }: MountedDisk): Promise<number> {
  const { pid } = await descendant(program.pid, CHUNK_SERVER);
  process.kill(pid, 'SIGKILL');
  return pid;
}

function emptyDisk(scope: Scope): string {
  const path = scope.path('disk.raw');
  writeFileSync(path, '');
  truncateSync(path, MIB);
  return path;
}

const cached = (scope: Scope, ...options: readonly string[]): string[] => [
  '--cache=none',
  `--cache-file=${scope.path('cache')}`,
  ...options,
];

/** How many reads the chunk server has answered from memory, as `--status` says. */
async function hitsOf({ mountpoint }: MountedDisk): Promise<number> {
  const { stdout } = await run(process.execPath, [NBDFUSE, '--status', '--json', mountpoint]);
  const { files }: { files: Status[] } = JSON.parse(stdout);
  return files[0].chunks?.hits ?? 0;
}

it('chunk server: a killed one on top of a URI is started again, and the status follows it', async () => {
  const scope = createScope();
  const image = emptyDisk(scope);
  const server = await startNbdkit(scope, 'file', image);
  // Nothing else proves that the server, which lives, has dropped the writes of the killed chunk server.
  const options = cached(scope, '--settle-time=0.5');
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  const file = await openFile(scope, disk.file, 'r+');
  for (const letter of ['A', 'B', 'C']) {
    const former = await killChunkServer(disk);
    await file.write(Buffer.alloc(BLOCK, letter), 0, BLOCK, 0);
    await file.sync();
    expect((await readAt(disk.file, 0, BLOCK)).equals(Buffer.alloc(BLOCK, letter))).toBe(true);
    expect(readFileSync(image).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, letter))).toBe(true);
    expect((await descendant(disk.program.pid, CHUNK_SERVER)).pid).not.toBe(former);
  }
  expect(disk.stderr).toContain('nbdfuse-chunks was killed by SIGKILL; reconnecting\n');
  const reads = 20;
  for (let i = 0; i < reads; i++) await readAt(disk.file, 0, BLOCK);
  await until('the status of the new chunk server', async () => (await hitsOf(disk)) >= reads - 1);
  expect(await disk.stop()).toBe(0);
});

it('chunk server: it is started again when the server below has come back', async () => {
  const scope = createScope();
  const words = ['file', emptyDisk(scope)];
  const server = await startNbdkit(scope, ...words);
  const disk = await mountDisk(scope, { server: [server.uri()], options: cached(scope) });
  const file = await openFile(scope, disk.file, 'r+');
  await server.program.kill('SIGKILL');
  await killChunkServer(disk);
  const written = file.write(Buffer.alloc(BLOCK, 'A'), 0, BLOCK, 0);
  await pause(1000);
  await startNbdkit(scope, ...words);
  await written;
  await file.sync();
  expect(await disk.stop()).toBe(0);
});

it('chunk server: that of a read-only mount is started again when the server below has come back', async () => {
  const scope = createScope();
  const words = ['--readonly', 'file', emptyDisk(scope)];
  const server = await startNbdkit(scope, ...words);
  const disk = await mountDisk(scope, { server: [server.uri()], options: cached(scope, '-r') });
  expect((await readAt(disk.file, 0, BLOCK)).equals(Buffer.alloc(BLOCK))).toBe(true);
  await server.program.kill('SIGKILL');
  await killChunkServer(disk);
  await disk.program.says(/cannot connect to socket/);
  await startNbdkit(scope, ...words);
  expect((await readAt(disk.file, MIB / 2, BLOCK)).equals(Buffer.alloc(BLOCK))).toBe(true);
  expect(await disk.stop()).toBe(0);
});

it('chunk server: its end is no proof for a write that the server below has', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  let land: (() => void) | undefined;
  const served = { size: 1_048_576n, flags: MULTI_CONN_FLAGS };
  const server = await startScriptedServer(scope, served, (request, reply) => {
    if (request.type !== NBD_CMD_WRITE || land !== undefined) return model.handle(request, reply);
    land = () => request.payload.copy(model.cached, Number(request.offset));
  });
  const disk = await mountDisk(scope, { server: [server.uri], options: cached(scope) });
  const file = await openFile(scope, disk.file, 'r+');
  const write = (letter: string, at: number): Promise<unknown> =>
    file.write(Buffer.alloc(BLOCK, letter), 0, BLOCK, at);
  const older = write('A', 0);
  await until('the write to arrive', () => land !== undefined);
  await killChunkServer(disk);
  await older;
  await write('C', BLOCK);
  await expect(write('B', 0)).rejects.toMatchObject({ code: 'EIO' });
  await disk.program.says(/writes to the bytes from 0 to 65536 fail: an older write/);
  land?.();
  expect(model.cached.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'A'))).toBe(true);
  expect(model.cached.subarray(BLOCK, 2 * BLOCK).equals(Buffer.alloc(BLOCK, 'C'))).toBe(true);
}, 60_000);

it('chunk server: a write is sent again when one connection to the server below is lost and others live', async () => {
  const scope = createScope();
  const model = new VolatileDisk(MIB);
  const writers: number[] = [];
  const served = { size: 1_048_576n, flags: MULTI_CONN_FLAGS };
  const server = await startScriptedServer(scope, served, (request, reply) => {
    if (request.type === NBD_CMD_WRITE && writers.push(request.connection) === 1) reply.drop();
    else model.handle(request, reply);
  });
  const disk = await mountDisk(scope, { server: [server.uri], options: cached(scope) });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(Buffer.alloc(BLOCK, 'A'), 0, BLOCK, 0);
  await file.sync();
  expect(model.stable.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'A'))).toBe(true);
  expect(new Set(writers).size).toBe(2);
});

it('chunk server: the end of the server below is proof, whether or not the chunk server lives', async () => {
  const scope = createScope();
  const image = emptyDisk(scope);
  const words = ['--filter=delay', 'file', image, 'wdelay=700ms'];
  let server = await startNbdkit(scope, ...words);
  const disk = await mountDisk(scope, { server: [server.uri()], options: cached(scope) });
  const file = await openFile(scope, disk.file, 'r+');
  const write = (letter: string): Promise<unknown> => file.write(Buffer.alloc(BLOCK, letter), 0, BLOCK, 0);
  for (const killsBoth of [false, true]) {
    const older = write('A');
    await pause(200);
    if (killsBoth) await killChunkServer(disk);
    await server.program.kill('SIGKILL');
    server = await startNbdkit(scope, ...words);
    await older;
    await write('B');
    await file.sync();
    expect(readFileSync(image).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
  }
}, 30_000);

/** A server in brackets whose first write waits for the file `go`, also after SIGTERM. */
function stubbornServer(scope: Scope, image: string): string[] {
  const [script, begun, go] = ['plugin.sh', 'begun', 'go'].map((name) => scope.path(name));
  const lines = [
    '#!/bin/sh',
    'case $1 in',
    `get_size) echo ${MIB};;`,
    'can_write|can_flush|flush) exit 0;;',
    `pread) dd if=${image} bs=64k count=$3 skip=$4 iflag=skip_bytes,count_bytes status=none;;`,
    `pwrite) trap "" TERM; cat >${script}.$$`,
    `  if mkdir ${begun} 2>/dev/null; then while [ ! -e ${go} ]; do sleep 0.05; done; fi`,
    `  dd if=${script}.$$ of=${image} bs=64k seek=$4 oflag=seek_bytes conv=notrunc status=none;;`,
    '*) exit 2;;',
    'esac',
  ];
  writeFileSync(script, lines.join('\n'), { mode: 0o755 });
  return ['[', 'nbdkit', 'sh', script, ']'];
}

it('chunk server: with --restart a newer write waits for the end of the former program in brackets', async () => {
  const scope = createScope();
  const image = emptyDisk(scope);
  const options = cached(scope, '--restart');
  const disk = await mountDisk(scope, { server: stubbornServer(scope, image), options });
  const file = await openFile(scope, disk.file, 'r+');
  const write = (letter: string): Promise<unknown> => file.write(Buffer.alloc(BLOCK, letter), 0, BLOCK, 0);
  const older = write('A');
  await until('the write to begin', () => existsSync(scope.path('begun')));
  await killChunkServer(disk);
  await older;
  await write('B');
  await file.sync();
  writeFileSync(scope.path('go'), '');
  await pause(500);
  expect(readFileSync(image).subarray(0, BLOCK).equals(Buffer.alloc(BLOCK, 'B'))).toBe(true);
}, 90_000);
