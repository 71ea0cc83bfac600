// The common tools on the files of --partitions and --partition, of each kind of table, against what partx says.

import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { hashOf } from '../../support/images.js';
import {
  PARTITION_KINDS,
  type PartitionKind,
  partitionedDisk,
  placesOfPartx,
} from '../../support/partitions.js';
import { runProgram, runShell } from '../../support/run/command.js';
import { mountDisk } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('sfdisk', 'fdisk', 'blkid', 'mkfs.ext4', 'e2fsck', 'qemu-img', 'partx', 'losetup', 'debugfs');

/** An ext4 file system in a file, with a file in it. */
async function createFileSystem(scope: Scope, file: string): Promise<string> {
  const text = scope.path('text');
  await runShell('yes "a line of the file" | head -c 300000 >"$0"', text);
  await runProgram('mkfs.ext4', '-q', '-F', file);
  await runProgram('debugfs', '-w', '-R', `write ${text} text`, file);
  await runProgram('e2fsck', '-f', '-n', file);
  return (await runProgram('blkid', '--probe', '--match-tag', 'UUID', '--output', 'value', file)).trim();
}

/** The UUID of the file system at a place of an image, which blkid finds without nbdfuse. */
const uuidAt = async (image: string, offset: number, size: number): Promise<string> =>
  (
    await runShell('blkid -p -O "$1" -S "$2" -s UUID -o value "$0"', image, String(offset), String(size))
  ).trim();

/** Copies by `cp --sparse` and by qemu-img have the bytes of a file. */
async function checkCopies(scope: Scope, file: string): Promise<void> {
  const [sparse, qcow2] = [scope.path('copy'), scope.path('copy.qcow2')];
  await runProgram('cp', '--sparse=always', file, sparse);
  expect(await hashOf(sparse)).toBe(await hashOf(file));
  await runProgram('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', file, qcow2);
  await runProgram('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', file, qcow2);
  await runProgram('e2fsck', '-f', '-n', sparse);
}

async function placeOf(image: string, number: number, sector: number) {
  const found = (await placesOfPartx(image, sector)).find(([one]) => one === number);
  if (found === undefined) throw new Error(`partx finds no partition ${number}`);
  return { offset: found[1], size: found[2] };
}

/** The table of a disk without the names of devices. */
async function dumped(file: string): Promise<string> {
  return (await runProgram('sfdisk', '--dump', file)).replaceAll(file, 'disk');
}

const MOUNTS: readonly (readonly [option: string, PartitionKind, number: number, sector: number])[] =
  PARTITION_KINDS.flatMap((kind) => [
    ['--partitions', ...kind],
    ['--partition', ...kind],
  ]);

it.each(MOUNTS)(
  '%s: the common tools work on a partition of %s, number %d',
  async (option, kind, number, sector) => {
    const scope = createScope();
    const image = await partitionedDisk(scope, kind);
    const { offset, size } = await placeOf(image, number, sector);
    const table = sector === 512 ? await dumped(image) : '';
    const isAll = option === '--partitions';
    const disk = await mountDisk(scope, {
      server: [image],
      options: isAll ? [option] : [option, String(number)],
    });
    const file = isAll ? `${disk.mountpoint}/p${number}` : disk.file;
    const uuid = await createFileSystem(scope, file);
    expect(uuid).toMatch(/^[0-9a-f-]{36}$/);
    await checkCopies(scope, file);
    if (isAll) {
      const whole = `${disk.mountpoint}/disk.raw`;
      expect(await uuidAt(whole, offset, size)).toBe(uuid);
      expect(await placeOf(whole, number, sector)).toEqual({ offset, size });
      if (sector === 512) expect(await dumped(whole)).toBe(table);
      if (sector === 512) expect(await runProgram('fdisk', '--list', whole)).toContain(`disk.raw${number} `);
    }
    expect(await disk.stop()).toBe(0);
    expect(await uuidAt(image, offset, size)).toBe(uuid);
    expect((await placeOf(image, number, sector)).size).toBe(size);
    const part = scope.path('part');
    await runShell('tail -c +$2 "$0" | head -c $3 >"$1"', image, part, String(offset + 1), String(size));
    await runProgram('e2fsck', '-f', '-n', part);
    const text = await runProgram('debugfs', '-R', 'cat text', part);
    expect(text.length).toBe(300_000);
  },
);
