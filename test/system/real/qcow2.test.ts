import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BACKENDS, withBackends } from '../../support/backends.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { runProgram } from '../../support/run/command.js';
import { createQcow2 } from '../../support/run/images.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startQemuNbd } from '../../support/run/servers.js';

requirePrograms('qemu-nbd', 'qemu-img', 'qemu-io');

const GIB = 1024 ** 3;
const TEXT = Buffer.alloc(200_001, 'bytes that must arrive. ');

/** The bytes of the image as qemu-img sees them. */
async function rawBytes(scope: Scope, image: string): Promise<Buffer> {
  const raw = scope.path('as-raw');
  await runProgram('qemu-img', 'convert', '-O', 'raw', image, raw);
  return readFile(raw);
}

type Options = readonly string[];

function bySocketActivation(scope: Scope, image: string, options: Options): Promise<MountedDisk> {
  return mountDisk(scope, { server: ['[', 'qemu-nbd', '-f', 'qcow2', image, ']'], options });
}

/** A disk, and the function that ends all users of the image. */
type Start = (
  scope: Scope,
  image: string,
  options: Options,
) => Promise<{ disk: MountedDisk; endServer(): unknown }>;

const asChild: Start = async (scope, image, options) => {
  return { disk: await bySocketActivation(scope, image, options), endServer: () => undefined };
};

const before: Start = async (scope, image, options) => {
  const server = await startQemuNbd(scope, '-f', 'qcow2', image);
  const disk = await mountDisk(scope, { server: [server.uri()], options });
  return { disk, endServer: () => server.program.kill('SIGTERM') };
};

const STARTS: readonly (readonly [string, Start])[] = [
  ['started by nbdfuse', asChild],
  ['started before', before],
];

it.each(
  withBackends(STARTS).map(([way, start, backend, options]) => [way, backend, start, options] as const),
)(
  'qcow2: qemu-img finds the data written through a qemu-nbd %s, by %s',
  async (_, _backend, start, options) => {
    const scope = createScope();
    const image = createQcow2(scope.path('disk.qcow2'), '4M');
    const { disk, endServer } = await start(scope, image, options);
    await writeAt(disk.file, TEXT, 1_000_003);
    expect((await readFile(disk.file)).subarray(1_000_003, 1_000_003 + TEXT.length).equals(TEXT)).toBe(true);
    expect(await disk.stop()).toBe(0);
    expect(disk.stderr).toBe('');
    await endServer();
    const expected = Buffer.alloc(4 * 1024 * 1024);
    TEXT.copy(expected, 1_000_003);
    expect((await rawBytes(scope, image)).equals(expected)).toBe(true);
    await runProgram('qemu-img', 'check', '-q', image);
  },
);

it.each(BACKENDS)(
  'qcow2: a sparse file of many GiB stays sparse, with bytes at both ends, by %s',
  async (_, options) => {
    const scope = createScope();
    const image = createQcow2(scope.path('disk.qcow2'), '40G');
    const disk = await bySocketActivation(scope, image, options);
    const last = 40 * GIB - TEXT.length;
    expect((await stat(disk.file)).size).toBe(40 * GIB);
    await writeAt(disk.file, TEXT, 0);
    await writeAt(disk.file, TEXT, 7 * GIB - 100);
    await writeAt(disk.file, TEXT, last);
    expect(await disk.stop()).toBe(0);
    expect((await stat(image)).size).toBeLessThan(4 * 1024 * 1024);
    const found = await bySocketActivation(scope, image, options);
    for (const offset of [0, 7 * GIB - 100, last]) {
      expect((await readAt(found.file, offset, TEXT.length)).equals(TEXT)).toBe(true);
    }
  },
);

it.each(BACKENDS)('qcow2: reads the data that qemu-io wrote before, by %s', async (_, options) => {
  const scope = createScope();
  const image = createQcow2(scope.path('disk.qcow2'), '8M');
  await runProgram('qemu-io', '-f', 'qcow2', '-c', 'write -P 0x5a 3M 64k', image);
  const disk = await bySocketActivation(scope, image, options);
  const bytes = await readFile(disk.file);
  expect(bytes.subarray(3 << 20, (3 << 20) + 65_536).equals(Buffer.alloc(65_536, 0x5a))).toBe(true);
  expect(bytes.subarray(0, 3 << 20).equals(Buffer.alloc(3 << 20))).toBe(true);
});

it.each(BACKENDS)('qcow2: a read-only qemu-nbd gives a read-only mount, by %s', async (_, options) => {
  const scope = createScope();
  const image = createQcow2(scope.path('disk.qcow2'), '1M');
  const disk = await mountDisk(scope, {
    server: ['[', 'qemu-nbd', '-r', '-f', 'qcow2', image, ']'],
    options,
  });
  await expect(writeFile(disk.file, 'x', { flag: 'r+' })).rejects.toThrow('EROFS');
  expect((await stat(disk.file)).mode & 0o222).toBe(0);
});
