// Partition tables for tests: entries and sectors that sfdisk would not write.

import { type FileHandle, open } from 'node:fs/promises';
import { tryProgram } from './run/command.js';

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
