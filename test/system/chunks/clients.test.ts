// Real NBD clients on the chunk server's NBD server, which serves a disk in memory.

import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { NbdClient } from '../../../src/index.js';
import { createScope } from '../../support/cleanup.js';
import { diskError, MemoryDisk } from '../../support/memory-disk.js';
import { mountDisk } from '../../support/run/mount.js';
import { Program } from '../../support/run/program.js';
import type { Scope } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { startDisk } from '../../support/served-disk.js';

const MIB = 1024 * 1024;

/** Runs a program beside this process, which serves it. @returns what it printed */
async function run(scope: Scope, command: string, ...args: readonly string[]): Promise<string> {
  const program = new Program(scope, command, args);
  expect({ status: await program.ended, stderr: program.stderr }).toMatchObject({ status: 0 });
  return program.stdout;
}

function filledDisk(size = 8 * MIB): MemoryDisk {
  const disk = new MemoryDisk({ size, description: 'a test' });
  disk.fill();
  return disk;
}

test('serve: nbdinfo finds the properties of the disk', async () => {
  const scope = createScope();
  const { uri } = await startDisk(scope, filledDisk());
  const { exports } = JSON.parse(await run(scope, 'nbdinfo', '--json', uri));
  expect(exports).toMatchObject([
    {
      'export-name': '',
      description: 'a test',
      'export-size': 8 * MIB,
      contexts: ['base:allocation'],
      is_read_only: false,
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    },
  ]);
  expect(await run(scope, 'nbdinfo', '--list', uri)).toContain('export=""');
  expect(await run(scope, 'nbdinfo', '--size', uri)).toBe(`${8 * MIB}\n`);
});

test('serve: nbdcopy reads and writes whole disks on several connections', async () => {
  const scope = createScope();
  const [source, target] = [filledDisk(), new MemoryDisk({ size: 8 * MIB })];
  const from = await startDisk(scope, source, 'source');
  const to = await startDisk(scope, target, 'target');
  await run(scope, 'nbdcopy', '--connections=4', '--flush', from.uri, to.uri);
  expect(target.bytes.equals(source.bytes)).toBe(true);
  expect(target.operations).toContain('flush 0+0');
  await run(scope, 'nbdcopy', from.uri, scope.path('copy'));
  expect(readFileSync(scope.path('copy')).equals(source.bytes)).toBe(true);
  await until('all clients to leave', () => source.connections + target.connections === 0);
});

test('serve: qemu-img and qemu-io read, write, zero, discard and map', async () => {
  const scope = createScope();
  const disk = new MemoryDisk({ size: 8 * MIB });
  const { uri } = await startDisk(scope, disk);
  const commands = ['write -P 7 4096 65536', 'write -z 8192 4096', 'write -z -u 16384 4096'];
  commands.push('discard 24576 4096', 'read -P 7 4096 4096', 'read -P 0 24576 4096', 'flush');
  await run(
    scope,
    'qemu-io',
    '-t',
    'writeback',
    '-d',
    'unmap',
    '-f',
    'raw',
    ...commands.flatMap((text) => ['-c', text]),
    uri,
  );
  expect(disk.operations).toEqual(
    expect.arrayContaining([
      'zero 8192+4096 noHole',
      expect.stringMatching(/^zero 16384\+4096$/),
      'trim 24576+4096',
      'flush 0+0',
    ]),
  );
  const map = JSON.parse(await run(scope, 'qemu-img', 'map', '-f', 'raw', '--output=json', uri));
  expect(map).toMatchObject([
    { start: 0, length: 4096, zero: true },
    { start: 4096, length: 12288, zero: false },
    { start: 16384, length: 4096, zero: true },
    { start: 20480, length: 4096, zero: false },
    { start: 24576, length: 4096, zero: true },
    { start: 28672, length: 40960, zero: false },
    { start: 69632, zero: true },
  ]);
  writeFileSync(scope.path('raw'), randomBytes(8 * MIB));
  await run(scope, 'qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', scope.path('raw'), uri);
  expect(disk.bytes.equals(readFileSync(scope.path('raw')))).toBe(true);
  await run(scope, 'qemu-img', 'compare', '-f', 'raw', scope.path('raw'), uri);
});

test('serve: nbdkit serves the disk on with its nbd plugin', async () => {
  const scope = createScope();
  const disk = filledDisk();
  const { socket } = await startDisk(scope, disk);
  const server = await startNbdkit(scope, 'nbd', `socket=${socket}`);
  await run(scope, 'nbdcopy', server.uri(), scope.path('copy'));
  expect(readFileSync(scope.path('copy')).equals(disk.bytes)).toBe(true);
});

test('serve: NbdClient reads, writes, trims and asks for extents', async () => {
  const scope = createScope();
  const disk = filledDisk();
  const { uri } = await startDisk(scope, disk);
  const client = await NbdClient.connect(uri, { metaContexts: ['base:allocation'] });
  scope.add(() => client.close());
  const bytes = randomBytes(MIB);
  await client.write(12345n, bytes, { fua: true });
  expect((await client.read(12345n, MIB)).equals(bytes)).toBe(true);
  await client.zero(0n, 8192n, { noHole: true });
  await client.trim(8192n, 4096n);
  await client.flush();
  expect(disk.operations).toEqual(
    expect.arrayContaining([`write 12345+${MIB} fua`, 'zero 0+8192 noHole', 'trim 8192+4096', 'flush 0+0']),
  );
});

test('serve: many requests are in progress at once, and their replies come in any order', async () => {
  const scope = createScope();
  const disk = filledDisk();
  const waiting: (() => void)[] = [];
  disk.before = () => new Promise((go) => waiting.push(go));
  const { uri } = await startDisk(scope, disk);
  const client = await NbdClient.connect(uri);
  scope.add(() => client.close());
  const reads = Array.from({ length: 40 }, (_, i) => client.read(i * 4096, 4096));
  await until('all requests to arrive', () => waiting.length === 40);
  for (const go of waiting.reverse()) go();
  const found = await Promise.all(reads);
  expect(Buffer.concat(found).equals(disk.bytes.subarray(0, 40 * 4096))).toBe(true);
});

test('serve: an error of the disk reaches the client with its text', async () => {
  const scope = createScope();
  const disk = filledDisk();
  disk.before = () => Promise.reject(diskError(28, 'no room here'));
  const { uri } = await startDisk(scope, disk);
  const client = await NbdClient.connect(uri);
  scope.add(() => client.close());
  await expect(client.write(0n, Buffer.alloc(4096))).rejects.toMatchObject({
    errno: 28,
    serverText: 'no room here',
  });
  await expect(client.flush()).rejects.toMatchObject({ errno: 28 });
});

test('serve: the clients are gone at once when the server below is lost', async () => {
  const scope = createScope();
  const disk = filledDisk();
  disk.before = () => new Promise(() => undefined);
  const { uri, server } = await startDisk(scope, disk);
  const client = await NbdClient.connect(uri);
  scope.add(() => client.close());
  const read = client.read(0n, 4096);
  await until('the request to arrive', () => disk.operations.length === 1);
  disk.lose();
  await expect(read).rejects.toThrow();
  await until('the client to be gone', () => server.clients === 0 && disk.connections === 0);
});

test('serve: a disk that cannot be opened says why', async () => {
  const scope = createScope();
  const refusing = { connect: () => Promise.reject(new Error('the image is damaged at byte 7')) };
  const { uri } = await startDisk(scope, refusing);
  await expect(NbdClient.connect(uri)).rejects.toThrow('the image is damaged at byte 7');
});

test('serve: nbdfuse mounts the disk, and every byte arrives', async () => {
  const scope = createScope();
  const disk = filledDisk(64 * MIB);
  const { socket } = await startDisk(scope, disk);
  const { file, stop } = await mountDisk(scope, { server: ['--unix', socket] });
  const program = new Program(scope, 'sh', [
    '-c',
    'cat "$1" >"$2" && dd if="$2" of="$1" bs=1M skip=1 seek=9 count=4 conv=notrunc,fsync status=none',
    'sh',
    file,
    scope.path('copy'),
  ]);
  const before = Buffer.from(disk.bytes);
  expect(await program.ended).toBe(0);
  expect(readFileSync(scope.path('copy')).equals(before)).toBe(true);
  expect(disk.bytes.subarray(9 * MIB, 13 * MIB).equals(before.subarray(MIB, 5 * MIB))).toBe(true);
  expect(await stop()).toBe(0);
  await until('all clients to leave', () => disk.connections === 0);
});
