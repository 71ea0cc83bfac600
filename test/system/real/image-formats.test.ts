// Images instead of servers: every format that qemu-img can make, compressed files, devices.

import { mkdirSync, renameSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { blockAt, convertTo, createRaw, hashOf, hashOfFirst } from '../../support/images.js';
import { makeReadOnlyImage } from '../../support/read-only-images.js';
import { runProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'xz', 'gzip');

const MIB = 1024 * 1024;
const MEBIBYTES = 4;

function mountImage(scope: Scope, image: string, ...options: string[]): Promise<MountedDisk> {
  return mountDisk(scope, { server: [image], options });
}

/** qemu-img's format, its options, the file's name, and nbdfuse's name of the format. */
const FORMATS: readonly (readonly [string, string, string, string])[] = [
  ['qcow2', '', 'disk.qcow2', 'qcow2'],
  ['qcow', '', 'disk.qcow', 'qcow'],
  ['qed', '', 'disk.qed', 'qed'],
  ['vdi', '', 'disk.vdi', 'vdi'],
  ['vpc', 'subformat=dynamic,force_size', 'disk.vhd', 'vhd'],
  ['vpc', 'subformat=fixed,force_size', 'fixed.VHD', 'vhd'],
  ['vhdx', '', 'disk.vhdx', 'vhdx'],
  ['vmdk', 'subformat=monolithicSparse', 'disk.vmdk', 'vmdk'],
  ['vmdk', 'subformat=monolithicFlat', 'flat.vmdk', 'vmdk'],
  ['parallels', '', 'disk.hds', 'parallels'],
  ['raw', '', 'disk.img', 'raw'],
  ['raw', '', 'disk', 'raw'],
];

it.each(FORMATS)('image formats: mounts %s (%s) called %s', async (format, options, name, called) => {
  const scope = createScope();
  const raw = await createRaw(scope, MEBIBYTES, 'source.raw');
  const image = await convertTo(scope, raw, format, name, options);
  const disk = await mountImage(scope, image, '-r');
  expect(disk.stderr).toBe(`nbdfuse: ${image} is ${called}; serving it with qemu-nbd\n`);
  expect(await hashOfFirst(disk.file, MEBIBYTES * MIB)).toBe(await hashOf(raw));
});

it.each(['dmg', 'cloop', 'bochs'] as const)(
  'image formats: mounts %s, which QEMU only reads',
  async (format) => {
    const scope = createScope();
    const raw = await createRaw(scope, MEBIBYTES);
    const image = makeReadOnlyImage(format, raw, scope.path(`disk.${format}`));
    const hash = await hashOf(image);
    for (const options of [[], ['--overlay']]) {
      const disk = await mountImage(scope, image, ...options);
      expect(disk.stderr).toContain(`nbdfuse: ${image} is ${format}; serving it with qemu-nbd\n`);
      expect(await hashOf(disk.file)).toBe(await hashOf(raw));
      expect((await stat(disk.file)).mode & 0o222).toBe(options.length === 0 ? 0 : 0o200);
      expect(await disk.stop()).toBe(0);
    }
    expect(await hashOf(image)).toBe(hash);
  },
);

it('image formats: a dmg on a web server is mounted by its trailer', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, MEBIBYTES);
  const web = await startHttpRangeServer(
    scope,
    makeReadOnlyImage('dmg', raw, scope.path('disk.dmg')),
    'disk.dmg',
  );
  const disk = await mountImage(scope, web.url);
  expect(await hashOf(disk.file)).toBe(await hashOf(raw));
});

it('image formats: qemu-img finds the data written to a mounted qcow2', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, MEBIBYTES);
  const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
  const disk = await mountImage(scope, image);
  await writeAt(disk.file, Buffer.from('written'), 123_456);
  expect(await disk.stop()).toBe(0);
  await writeAt(raw, Buffer.from('written'), 123_456);
  await runProgram('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', image, raw);
});

describe.each([
  ['xz', ['xz', '-k', '-0'], 'xz'],
  ['gzip', ['gzip', '-k', '-1'], 'gz'],
] as const)('file packed with %s', (compression, [program, ...words], suffix) => {
  it('is unpacked while it is read, read-only', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, MEBIBYTES);
    await runProgram(program, ...words, raw);
    const disk = await mountImage(scope, `${raw}.${suffix}`);
    expect(disk.stderr).toBe(
      `nbdfuse: ${raw}.${suffix} is raw, compressed with ${compression}; serving it with nbdfuse-chunks\n`,
    );
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    expect((await stat(disk.file)).mode & 0o222).toBe(0);
  });

  it('may contain a qcow2', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, MEBIBYTES);
    const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    await runProgram(program, ...words, image);
    const disk = await mountImage(scope, `${image}.${suffix}`);
    expect(disk.stderr).toContain(
      `is qcow2, compressed with ${compression}; serving it with nbdfuse-chunks and qemu-nbd`,
    );
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
  });
});

const ODD_NAMES = ['-odd, 100%.img', 'nbd:host', 'a=b:c "d\' \\.img', 'two\nlines.img'];

it.each(ODD_NAMES)('odd image name: works packed, and as an overlay: %j', async (name) => {
  const scope = createScope();
  const image = await createRaw(scope, 1, name);
  await runProgram('xz', '-k', '-0', '--', image);
  const options = [`--overlay=${scope.path(`${name}.qcow2`)}`];
  for (const server of [image, `${image}.xz`]) {
    const disk = await mountDisk(scope, { server: [server], options });
    expect(await blockAt(disk.file, 8192)).toBe(2);
    await writeAt(disk.file, Buffer.from('kept'), 4096);
    expect(await disk.stop()).toBe(0);
    const again = await mountDisk(scope, { server: [server], options });
    expect((await readAt(again.file, 4096, 4)).toString()).toBe('kept');
    expect(await again.stop()).toBe(0);
    await rm(scope.path(`${name}.qcow2`));
  }
});

describe('odd image name', () => {
  it.each(['a:b.qcow2', '-odd, name.qcow2', 'json:{}.qcow2', "it's $HOME.qcow2"])(
    'is the name of a file: %s',
    async (name) => {
      const scope = createScope();
      const raw = await createRaw(scope, MEBIBYTES);
      await convertTo(scope, raw, 'qcow2', 'plain.qcow2');
      renameSync(scope.path('plain.qcow2'), scope.path(name));
      mkdirSync(scope.path('mnt'));
      const typed = name.startsWith('-') ? `./${name}` : name;
      const words = ['-r', '-P', 'pid', 'mnt', typed];
      const program = startNbdfuse(scope, words, {
        prefix: ['env', '-C', scope.folder],
      });
      await program.fills(scope.path('pid'));
      expect(await blockAt(scope.path('mnt/nbd'), 8192)).toBe(2);
      expect(await program.kill('SIGTERM')).toBe(0);
    },
  );
});
