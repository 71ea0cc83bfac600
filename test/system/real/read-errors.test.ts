// Read and write errors of the storage below a qemu-nbd: the request fails, and the rest goes on.
//
// qemu-nbd reads a sparse image in parts, and disconnects when it cannot read one. Without --persistent it then ends.

import { rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { expect, it } from 'vitest';
import { withBackends } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { makeEncrypted, runProgram } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit, startQemuNbd } from '../../support/run/servers.js';
import { createShPlugin } from '../../support/sh-plugin.js';

requirePrograms('nbdkit', 'qemu-nbd', 'qemu-img', 'xz');

const SIZE = 8 * 1024 * 1024;
/** Bytes at which reads and writes fail. */
const BAD = [1_048_576, 3_145_728] as const;

/** The URI of a disk with bad sectors. */
async function badDisk(scope: Scope, size = SIZE): Promise<string> {
  const failures = BAD.flatMap((offset) => [
    `'pread ${offset}') echo EIO bad sector >&2; exit 1;;`,
    `'pwrite ${offset}') cat >/dev/null; echo EIO bad sector >&2; exit 1;;`,
    `'zero ${offset}') echo EIO bad sector >&2; exit 1;;`,
  ]);
  const { script } = createShPlugin(scope, { size, failures });
  const { uri } = await startNbdkit(scope, 'sh', script);
  return uri();
}

async function expectErrorsAlone(file: string): Promise<void> {
  await writeAt(file, Buffer.alloc(4096, 'a'), 65_536);
  for (const offset of BAD) {
    await expect(readAt(file, offset, 4096)).rejects.toThrow('EIO');
    expect(await readAt(file, 65_536, 4096)).toEqual(Buffer.alloc(4096, 'a'));
    await expect(readAt(file, offset, 4096)).rejects.toThrow('EIO');
  }
  for (const offset of BAD)
    await expect(writeAt(file, Buffer.alloc(4096, 'b'), offset)).rejects.toThrow('EIO');
  await writeAt(file, Buffer.alloc(4096, 'c'), 131_072);
  expect(await readAt(file, 131_072, 4096)).toEqual(Buffer.alloc(4096, 'c'));
}

const CACHE = '--cache=none';

const OWN_SERVERS: readonly (readonly [string, (uri: string) => readonly string[]])[] = [
  ['of its own that ends with its connection', (uri) => ['[', 'qemu-nbd', '-f', 'raw', uri, ']']],
  ['of its own that goes on', (uri) => ['--socket-activation', 'qemu-nbd', '-t', '-f', 'raw', uri]],
];

it.each(
  withBackends(OWN_SERVERS).map(([what, server, name, options]) => [what, name, server, options] as const),
)(
  'read errors: only the failed requests fail, with a qemu-nbd %s, by %s',
  async (_, _name, server, options) => {
    const scope = createScope();
    const { file } = await mountDisk(scope, {
      server: server(await badDisk(scope)),
      options: [CACHE, ...options],
    });
    await expectErrorsAlone(file);
  },
);

it.each([1, 4])(
  'read errors: only the failed requests fail, with a URI and %d connections',
  async (count) => {
    const scope = createScope();
    const { uri } = await startQemuNbd(scope, '-f', 'raw', await badDisk(scope));
    const { file } = await mountDisk(scope, { server: [uri()], options: [CACHE, '-C', String(count)] });
    await expectErrorsAlone(file);
  },
);

it('read errors: only the failed requests fail, with the qemu-nbd of an image', async () => {
  const scope = createScope();
  const options = [CACHE, '--overlay'];
  const disk = await mountDisk(scope, { server: [await badDisk(scope)], options });
  await writeAt(disk.file, Buffer.alloc(4096, 'a'), 65_536);
  for (const offset of BAD) await expect(readAt(disk.file, offset, 4096)).rejects.toThrow('EIO');
  expect(await readAt(disk.file, 65_536, 4096)).toEqual(Buffer.alloc(4096, 'a'));
  expect(disk.stderr).not.toContain('the server is lost');
  expect(await disk.stop()).toBe(0);
});

it.each([SIZE, SIZE + 100])(
  'read errors: only the failed requests fail, with an image of %d bytes on a bad disk',
  async (size) => {
    const scope = createScope();
    const server = [await badDisk(scope, size)];
    const bad = await mountDisk(scope, { server, options: [CACHE], name: 'bad', form: 'file name' });
    const disk = await mountDisk(scope, { server: [bad.file], options: [CACHE] });
    await expectErrorsAlone(disk.file);
    expect(await disk.stop()).toBe(0);
    expect(await bad.stop()).toBe(0);
  },
);

/** A folder with a file whose reads all fail while the file `fail` is there. */
async function failingFile(scope: Scope, path: string): Promise<{ image: string; fail: string }> {
  const fail = scope.path('fail');
  const words = ['error-pread=EIO', 'error-pread-rate=100%', `error-file=${fail}`];
  const { uri } = await startNbdkit(scope, '--filter=error', 'file', path, ...words);
  const { file } = await mountDisk(scope, { server: [uri()], options: [CACHE], name: 'bad' });
  const image = scope.path(`bad-${basename(path)}`);
  symlinkSync(file, image);
  return { image, fail };
}

/** Makes an image of a raw disk in a scope's folder; returns its path and the options to mount it with. */
type MakeImage = (scope: Scope, raw: string) => Promise<{ path: string; options: readonly string[] }>;

async function withSnapshot(scope: Scope, raw: string): Promise<string> {
  const path = scope.path('disk.qcow2');
  await runProgram('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path);
  await runProgram('qemu-img', 'snapshot', '-c', 'then', path);
  return path;
}

async function encrypted(scope: Scope, raw: string): Promise<{ path: string; options: readonly string[] }> {
  const [path, key] = [scope.path('disk.luks'), scope.path('key')];
  writeFileSync(key, 'key');
  const secret = ['--object', `secret,id=s,file=${key}`, '-o', 'key-secret=s,iter-time=10'];
  await makeEncrypted('convert', ...secret, '-f', 'raw', '-O', 'luks', raw, path);
  await runProgram('xz', '--block-size=64KiB', '-0', path);
  return { path: `${path}.xz`, options: [`--key-file=${key}`] };
}

const STACKS: readonly (readonly [string, number, MakeImage])[] = [
  [
    'a snapshot with an overlay',
    SIZE,
    async (scope, raw) => ({
      path: await withSnapshot(scope, raw),
      options: ['--snapshot-name=then', '--overlay'],
    }),
  ],
  [
    'a snapshot with a kept overlay',
    SIZE,
    async (scope, raw) => ({
      path: await withSnapshot(scope, raw),
      options: ['--snapshot-name=then', `--overlay=${scope.path('kept.qcow2')}`],
    }),
  ],
  [
    'a raw image of an odd size with an overlay',
    SIZE + 100,
    async (_, path) => ({ path, options: ['--overlay'] }),
  ],
  [
    'a raw image of an odd size with a kept overlay',
    SIZE + 100,
    async (scope, path) => ({ path, options: [`--overlay=${scope.path('kept.qcow2')}`] }),
  ],
  [
    'a packed encrypted image with a kept overlay',
    SIZE,
    async (scope, raw) => {
      const { path, options } = await encrypted(scope, raw);
      return { path, options: [...options, `--overlay=${scope.path('kept.qcow2')}`] };
    },
  ],
];

it.each(STACKS)('read errors: only the failed requests fail, with %s', async (_, size, make) => {
  const scope = createScope();
  const raw = scope.path('disk.img');
  writeFileSync(raw, Buffer.alloc(size, 'disk'));
  const { path, options } = await make(scope, raw);
  const { image, fail } = await failingFile(scope, path);
  const disk = await mountDisk(scope, { server: [image], options: [CACHE, ...options] });
  await writeAt(disk.file, Buffer.alloc(65_536, 'w'), 65_536);
  for (const offset of BAD) {
    writeFileSync(fail, '');
    await expect(readAt(disk.file, offset, 4096)).rejects.toThrow('EIO');
    expect(await readAt(disk.file, 65_536, 4096)).toEqual(Buffer.alloc(4096, 'w'));
    rmSync(fail);
    expect(await readAt(disk.file, offset, 4096)).toEqual(Buffer.alloc(4096, 'disk'));
  }
  expect(disk.stderr).not.toContain('the server is lost');
  expect((await stat(disk.file)).size).toBe(size);
  expect(await disk.stop()).toBe(0);
});

it('read errors: a qemu-nbd that goes on and is killed is lost for good', async () => {
  const scope = createScope();
  const uri = await badDisk(scope);
  const disk = await mountDisk(scope, { server: [uri], options: [CACHE, '--overlay'] });
  const servers = await processesOf(scope.folder);
  const server = servers.find(({ command }) => /^\S*qemu-nbd /.test(command));
  process.kill(server?.pid ?? 0, 'SIGKILL');
  await disk.program.says(
    /the server is lost: qemu-nbd was killed by SIGKILL; reads and writes fail with EIO/,
  );
  await expect(readAt(disk.file, 65_536, 4096)).rejects.toThrow('EIO');
});
