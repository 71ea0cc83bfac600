// Partition tables for tests: entries and sectors that sfdisk would not write.

import { type FileHandle, open } from 'node:fs/promises';
import { runProgram, runShell, tryProgram } from './run/command.js';
import type { Scope } from './run/scope.js';

/** Type, first sector, number of sectors. */
export type Entry = readonly [type: number, start: number, length: number];

/** A sector of 512 bytes with the entries of an MBR, or of a link of logical partitions. */
export function mbrSector(entries: readonly (Entry | undefined)[]): Buffer {
  const sector = Buffer.alloc(512);
  for (const [i, entry] of entries.entries()) {
    if (entry === undefined) continue;
    const at = 446 + i * 16;
    sector[at + 4] = entry[0];
    sector.writeUInt32LE(entry[1], at + 8);
    sector.writeUInt32LE(entry[2], at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** Runs `use` with an image that is opened for writing. */
export async function editImage<T>(path: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await open(path, 'r+');
  try {
    return await use(handle);
  } finally {
    await handle.close();
  }
}

/** Inverts the bits of a byte of an image. */
export async function damage(path: string, at: number): Promise<void> {
  await editImage(path, async (handle) => {
    const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, at);
    buffer[0] ^= 0xff;
    await handle.write(buffer, 0, 1, at);
  });
}

/** Number, first byte and bytes of a partition. */
export type Place = readonly [number: number, offset: number, size: number];

/** The partitions that partx shows of an image, without extended ones (which have no data of their own). */
export async function placesOfPartx(path: string, sectorSize = 512): Promise<readonly Place[]> {
  const columns = ['--output', 'NR,START,SECTORS,TYPE', '--noheadings'];
  const size = ['--sector-size', String(sectorSize)];
  const { status, stdout } = await tryProgram('partx', '--show', ...size, ...columns, path);
  if (status !== 0 || stdout.trim() === '') return [];
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , type]) => !['0x5', '0xf', '0x85'].includes(type ?? ''))
    .map(([number, start, count]) => [Number(number), Number(start) * 512, Number(count) * 512]);
}

/** Tables of a disk of 32 MiB, as sfdisk reads them, and the bytes of a sector. */
const TABLES = {
  'MBR primary': ['label: dos\nstart=2048, size=8192\nstart=16384, size=32768\n', 512],
  'MBR logical': [
    'label: dos\nstart=2048, size=2048\nstart=4096, type=5\nstart=6144, size=16384\nstart=24576, size=20480\n',
    512,
  ],
  GPT: ['label: gpt\nstart=2048, size=8192, name="boot disk"\nstart=16384, size=32768, name=root\n', 512],
  'GPT of 4096': ['label: gpt\nstart=256, size=1024\nstart=2048, size=4096\n', 4096],
} as const;

export type PartitionKind = keyof typeof TABLES;

/** The kinds of tables: the number of a partition of at least 8 MiB, and the bytes of a sector. */
export const PARTITION_KINDS: readonly (readonly [kind: PartitionKind, number: number, sector: number])[] = [
  ['MBR primary', 2, 512],
  ['MBR logical', 5, 512],
  ['GPT', 2, 512],
  ['GPT of 4096', 2, 4096],
];

/** A raw disk of 32 MiB with a partition table. */
export async function partitionedDisk(scope: Scope, kind: PartitionKind, name = 'disk.raw'): Promise<string> {
  const path = scope.path(name);
  const [table, sector] = TABLES[kind];
  await runProgram('truncate', '--size', '32M', path);
  if (sector === 512) {
    await runShell('printf %b "$1" | sfdisk --quiet "$0"', path, table);
    return path;
  }
  await withLoopDevice(path, sector, (device) =>
    runShell('printf %b "$1" | sfdisk --quiet "$0"', device, table),
  );
  return path;
}

/** Runs `use` with a loop device of a file. @param sectorSize in bytes */
export async function withLoopDevice<T>(
  path: string,
  sectorSize: number,
  use: (device: string) => Promise<T>,
): Promise<T> {
  const attach = ['--find', '--show', '--sector-size', String(sectorSize)];
  const device = (await runProgram('losetup', ...attach, path)).trim();
  try {
    const result = await use(device);
    await runProgram('blockdev', '--flushbufs', device);
    return result;
  } finally {
    await runProgram('losetup', '--detach', device);
  }
}
