// Overlays: no write changes the image.

import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BOOTED_STATUS, bootSector, TEXT_SECTOR, textSector } from '../../support/boot-sector.js';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { blockAt, convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram, tryProgram } from '../../support/run/command.js';
import { type MountedDisk, mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { mountsBelow } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'xz', 'qemu-system-x86_64');

const MIB = 1024 * 1024;
const TEXT = Buffer.alloc(10_000, 'written to the overlay. ');

/** Writes, checks the written bytes and the old ones, and unmounts. */
async function writeThrough(disk: MountedDisk): Promise<void> {
  await writeAt(disk.file, TEXT, MIB);
  expect((await readAt(disk.file, MIB, TEXT.length)).equals(TEXT)).toBe(true);
  expect(await blockAt(disk.file, 2 * MIB)).toBe(512);
  expect(await disk.stop()).toBe(0);
}

/** The image to mount, and the files that must not change. */
interface Original {
  readonly name: string;
  readonly files: readonly string[];
}

const ORIGINALS: readonly (readonly [string, (scope: Scope) => Promise<Original>])[] = [
  [
    'a raw image',
    async (scope) => {
      const raw = await createRaw(scope, 4);
      return { name: raw, files: [raw] };
    },
  ],
  [
    'a qcow2',
    async (scope) => {
      const image = await convertTo(scope, await createRaw(scope, 4), 'qcow2', 'disk.qcow2');
      return { name: image, files: [image] };
    },
  ],
  [
    'a vmdk',
    async (scope) => {
      const image = await convertTo(scope, await createRaw(scope, 4), 'vmdk', 'disk.vmdk');
      return { name: image, files: [image] };
    },
  ],
  [
    'an xz on a web server',
    async (scope) => {
      const raw = await createRaw(scope, 4);
      await runProgram('xz', '-k', '-0', '--block-size=1MiB', raw);
      const web = await startHttpRangeServer(scope, `${raw}.xz`);
      return { name: web.url, files: [`${raw}.xz`] };
    },
  ],
  [
    'an export of an NBD server',
    async (scope) => {
      const raw = await createRaw(scope, 4);
      const server = await startNbdkit(scope, 'file', raw);
      return { name: server.uri(), files: [raw] };
    },
  ],
];

describe.each(ORIGINALS)('overlay over %s', (_, create) => {
  it('discards written data at the end', async () => {
    const scope = createScope();
    const { name, files } = await create(scope);
    const before = await Promise.all(files.map(hashOf));
    const program = { env: { TMPDIR: scope.folder } };
    await writeThrough(await mountDisk(scope, { server: [name], options: ['--overlay'], program }));
    const again = await mountDisk(scope, { server: [name], options: ['--overlay'], program });
    expect(await blockAt(again.file, MIB)).toBe(256);
    expect(await again.stop()).toBe(0);
    expect(await Promise.all(files.map(hashOf))).toEqual(before);
    // The overlay and the sockets have been removed.
    expect(readdirSync(scope.folder).filter((name) => !/^(disk|mnt|nbdkit)/.test(name))).toEqual([]);
  });

  it('keeps written data in a file, and shows it again after a remount', async () => {
    const scope = createScope();
    const { name, files } = await create(scope);
    const before = await Promise.all(files.map(hashOf));
    const options = [`--overlay=${scope.path('kept, and.qcow2')}`];
    await writeThrough(await mountDisk(scope, { server: [name], options }));
    const again = await mountDisk(scope, { server: [name], options });
    expect((await readAt(again.file, MIB, TEXT.length)).equals(TEXT)).toBe(true);
    expect(await blockAt(again.file, 2 * MIB)).toBe(512);
    expect(await again.stop()).toBe(0);
    expect(await Promise.all(files.map(hashOf))).toEqual(before);
  });
});

it('overlay: a temporary one disappears even after SIGKILL', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 4);
  const before = await hashOf(raw);
  const program = { env: { TMPDIR: scope.folder } };
  const disk = await mountDisk(scope, {
    server: [raw],
    options: ['--overlay', '-o', 'auto_unmount'],
    program,
  });
  await writeAt(disk.file, TEXT, MIB);
  await disk.stop('SIGKILL');
  await until('the end of the mount', async () => (await mountsBelow(scope.folder)).length === 0);
  expect(await hashOf(raw)).toBe(before);
  const left = readdirSync(scope.folder).filter((name) => !/^(disk|mnt|nbdfuse-)/.test(name));
  expect(left).toEqual([]);
});

it('overlay: nbdfuse refuses the overlay of another image, and files that are no overlay', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 1);
  const other = await createRaw(scope, 1, 'other.raw');
  const kept = scope.path('kept.qcow2');
  const first = await mountDisk(scope, { server: [raw], options: [`--overlay=${kept}`] });
  expect(await first.stop()).toBe(0);
  const wrong = startNbdfuse(scope, [`--overlay=${kept}`, scope.path('mnt'), other]);
  expect(await wrong.ended).toBe(1);
  expect(wrong.stderr).toBe(
    `nbdfuse: ${kept} is an overlay of ${raw} (raw), not of ${other} (raw): name another file\n`,
  );
  const odd = startNbdfuse(scope, [`--overlay=${other}`, scope.path('mnt'), raw]);
  expect(await odd.ended).toBe(1);
  expect(odd.stderr).toMatch(/^nbdfuse: \S*other\.raw is not an overlay: name a new file/);
});

it('overlay: QEMU without nbdfuse opens a persistent overlay of a local image, but not of a compressed one', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 1);
  await runProgram('xz', '-k', '-0', raw);
  for (const name of [raw, `${raw}.xz`]) {
    const disk = await mountDisk(scope, { server: [name], options: [`--overlay=${name}.qcow2`] });
    expect(await disk.stop()).toBe(0);
  }
  const chain = await runProgram('qemu-img', 'info', '--backing-chain', `${raw}.qcow2`);
  expect(chain).toContain(`image: ${raw}\n`);
  const packed = await tryProgram('qemu-img', 'compare', `${raw}.xz.qcow2`, raw);
  expect(packed.stderr).toMatch(/Failed to connect to 'socket'/);
});

it('overlay: a machine boots from an image that stays unchanged', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 4);
  await writeAt(raw, bootSector(), 0);
  await writeAt(raw, textSector('booted from the overlay\n'), TEXT_SECTOR * 512);
  const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
  const before = await hashOf(image);
  const disk = await mountDisk(scope, { server: [image], options: ['--overlay'] });
  const machine = '-accel tcg -nodefaults -no-user-config -display none -no-reboot -m 32 -serial stdio'.split(
    ' ',
  );
  const { status, stdout } = await tryProgram(
    'qemu-system-x86_64',
    ...[...machine, '-device', 'isa-debug-exit,iobase=0xf4,iosize=1'],
    ...['-drive', `file=${disk.file},format=raw,if=virtio`],
  );
  expect([status, stdout.includes('booted from the overlay')]).toEqual([BOOTED_STATUS, true]);
  expect(await disk.stop()).toBe(0);
  expect(await hashOf(image)).toBe(before);
});
