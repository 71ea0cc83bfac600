// One partition of an image, and internal snapshots.

import { stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { readAt, writeAt } from '../../support/files.js';
import { blockAt, convertTo, createRaw, hashOf } from '../../support/images.js';
import { damage } from '../../support/partitions.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { requireReplay } from '../../support/vhdx.js';

requirePrograms('qemu-nbd', 'qemu-img', 'nbdkit', 'sfdisk', 'xz');

const MIB = 1024 * 1024;
const TABLES = {
  MBR: 'label: dos\nstart=2048, size=2048\nstart=4096, type=5\nstart=6144, size=2048\nstart=10240, size=1024\n',
  GPT: 'label: gpt\nstart=2048, size=2048\nstart=4096, size=1024\nstart=6144, size=2048\n',
};

/** Number, offset in MiB and size of partitions of the tables. */
const PARTITIONS = [
  ['MBR', 1, 1, MIB],
  ['MBR', 5, 3, MIB],
  ['MBR', 6, 5, MIB / 2],
  ['GPT', 1, 1, MIB],
  ['GPT', 3, 3, MIB],
] as const;

async function createPartitioned(scope: Scope, table: keyof typeof TABLES): Promise<string> {
  const raw = await createRaw(scope, 8);
  // Room for the tables: their sectors do not contain their place.
  await runShell('printf %b "$1" | sfdisk --quiet --wipe never "$0"', raw, TABLES[table]);
  return raw;
}

/** The same disk, served in one of several ways. */
const WAYS: readonly (readonly [string, (scope: Scope, raw: string) => Promise<string>])[] = [
  ['a raw image', async (_, raw) => raw],
  ['a qcow2', (scope, raw) => convertTo(scope, raw, 'qcow2', 'disk.qcow2')],
  [
    'a packed image',
    async (_, raw) => {
      await runProgram('xz', '-k', '-0', raw);
      return `${raw}.xz`;
    },
  ],
  ['an NBD server', async (scope, raw) => (await startNbdkit(scope, 'file', raw)).uri()],
];

describe.each(WAYS)('partition of %s', (way, create) => {
  const all =
    way === 'a raw image' ? PARTITIONS.slice(1, 5) : PARTITIONS.slice(1, 4).filter((_, i) => i !== 1);
  it.each(all)('%s partition %d mounts without the rest of the disk', async (table, number, at, size) => {
    const scope = createScope();
    const image = await create(scope, await createPartitioned(scope, table));
    const disk = await mountDisk(scope, { server: [image], options: ['-r', '--partition', String(number)] });
    expect((await stat(disk.file)).size).toBe(size);
    expect(await blockAt(disk.file, 0)).toBe((at * MIB) / 4096);
    expect(await blockAt(disk.file, size - 4096)).toBe((at * MIB + size) / 4096 - 1);
    expect(await disk.stop()).toBe(0);
  });
});

it('partition: a write arrives at its offset in the image', async () => {
  const scope = createScope();
  const image = await createPartitioned(scope, 'GPT');
  const disk = await mountDisk(scope, { server: [image], options: ['--partition=3'] });
  await writeAt(disk.file, Buffer.from('in partition 3'), 100);
  expect(await disk.stop()).toBe(0);
  expect((await readAt(image, 3 * MIB + 100, 14)).toString()).toBe('in partition 3');
});

it('partition: a VHDX whose log must be replayed mounts, as the whole disk does', async () => {
  const scope = createScope();
  const image = await convertTo(scope, await createPartitioned(scope, 'GPT'), 'vhdx', 'disk.vhdx');
  await requireReplay(image);
  const before = await hashOf(image);
  const options = ['--partition=3'];
  const refused = startNbdfuse(scope, ['-r', ...options, scope.path('mnt'), image]);
  expect(await refused.ended).toBe(1);
  expect(refused.stderr).toContain('contains a log that needs to be replayed');
  // An overlay must not change the image.
  const over = startNbdfuse(scope, ['--overlay', ...options, scope.path('mnt'), image]);
  expect(await over.ended).toBe(1);
  expect(await hashOf(image)).toBe(before);
  const disk = await mountDisk(scope, { server: [image], options });
  expect(await blockAt(disk.file, 0)).toBe((3 * MIB) / 4096);
  await writeAt(disk.file, Buffer.from('written'), 0);
  expect(await disk.stop()).toBe(0);
});

it('partition: an export of a read-only server mounts read-only', async () => {
  const scope = createScope();
  const server = await startNbdkit(scope, '-r', 'file', await createPartitioned(scope, 'GPT'));
  const disk = await mountDisk(scope, { server: [server.uri()], options: ['--partition=3'] });
  expect((await stat(disk.file)).mode & 0o222).toBe(0);
  expect(await blockAt(disk.file, 0)).toBe((3 * MIB) / 4096);
});

it('partition: a damaged GPT is served from its backup with a warning, and never as the whole disk', async () => {
  const scope = createScope();
  const image = await createPartitioned(scope, 'GPT');
  await damage(image, 512);
  const disk = await mountDisk(scope, { server: [image], options: ['--partition=3'] });
  expect(disk.stderr).toContain(
    'nbdfuse: the GPT at the beginning of the disk is damaged (no header): using',
  );
  expect(await blockAt(disk.file, 0)).toBe((3 * MIB) / 4096);
  expect(await disk.stop()).toBe(0);
  await damage(image, 8 * MIB - 512);
  const refused = startNbdfuse(scope, ['--partition=1', scope.path('mnt'), image]);
  expect(await refused.ended).toBe(1);
  expect(refused.stderr).toMatch(
    /^nbdfuse: the GPT of the disk is damaged \(no header\), and there is no good/,
  );
});

it.each([
  [7, /^nbdfuse: the disk has no partition 7: it has 1, 2, 3\n$/],
  ['x', /^nbdfuse: --partition x: must be a whole number from 1 to 1024\n$/],
] as const)('partition: a missing one is reported: %s', async (number, message) => {
  const scope = createScope();
  const image = await createPartitioned(scope, 'GPT');
  const program = startNbdfuse(scope, [`--partition=${number}`, scope.path('mnt'), image]);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(message);
});

describe('internal snapshot of a qcow2', () => {
  /** A qcow2 image with partitions in its snapshot and none in its present state. */
  async function createSnapshot(scope: Scope): Promise<string> {
    const raw = await createPartitioned(scope, 'MBR');
    const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    await runProgram('qemu-img', 'snapshot', '-c', 'before, that', image);
    await runProgram('qemu-io', '-f', 'qcow2', '-c', 'write -P 0 0 8M', image);
    return image;
  }

  it('mounts read-only', async () => {
    const scope = createScope();
    const image = await createSnapshot(scope);
    const disk = await mountDisk(scope, { server: [image], options: ['--snapshot-name=before, that'] });
    expect(await blockAt(disk.file, 7 * MIB)).toBe(1792);
    expect((await stat(disk.file)).mode & 0o222).toBe(0);
  });

  it('is found by its ID where no snapshot has that name', async () => {
    const scope = createScope();
    const image = await createSnapshot(scope);
    const mounted = async (option: string): Promise<number | undefined> => {
      const disk = await mountDisk(scope, { server: [image], options: [option] });
      const block = await blockAt(disk.file, 7 * MIB);
      expect(await disk.stop()).toBe(0);
      return block;
    };
    expect(await mounted('--snapshot-name=1')).toBe(1792);
    await runProgram('qemu-img', 'snapshot', '-c', '1', image);
    // Its content is zeros.
    expect(await mounted('--snapshot-name=1')).toBeUndefined();
  });

  it('accepts writes with an overlay, and has partitions', async () => {
    const scope = createScope();
    const image = await createSnapshot(scope);
    const options = ['--snapshot-name=before, that', '--partition=5', '--overlay'];
    const disk = await mountDisk(scope, { server: [image], options });
    expect(await blockAt(disk.file, 0)).toBe((3 * MIB) / 4096);
    await writeAt(disk.file, Buffer.from('written'), 0);
    expect((await readAt(disk.file, 0, 7)).toString()).toBe('written');
    expect(await disk.stop()).toBe(0);
  });

  it('that is missing is reported, and so is that of another format', async () => {
    const scope = createScope();
    const image = await createSnapshot(scope);
    for (const more of [[], ['--overlay']]) {
      const wrong = startNbdfuse(scope, ['--snapshot-name=none', ...more, scope.path('mnt'), image]);
      expect(await wrong.ended).toBe(1);
      expect(wrong.stderr).toBe(
        `nbdfuse: ${image} has no snapshot none: qemu-img snapshot -l ${image} lists its snapshots\n`,
      );
    }
    const raw = startNbdfuse(scope, ['--snapshot-name=none', scope.path('mnt'), scope.path('disk.raw')]);
    expect(await raw.ended).toBe(1);
    expect(raw.stderr).toMatch(/^nbdfuse: --snapshot-name: \S+ is raw; only qcow2 has snapshots\n$/);
  });
});
