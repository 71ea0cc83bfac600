// Disk images for tests on real servers, and their contents.
//
// The bytes of the disk contain their place, so that a wrong offset, a wrong partition or a wrong layer is
// detected.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { readAt } from './files.js';
import { runProgram } from './run/command.js';
import type { Scope } from './run/scope.js';

/** Bytes of a block of these disks. */
export const BLOCK = 4096;

/** The bytes of a disk at a block: `block 5 of the disk; ` again and again. */
export function blockOf(index: number): Buffer {
  return Buffer.alloc(BLOCK, `block ${index} of the disk; `);
}

/** A raw image of `mebibytes`; every block except the first contains its place. */
export async function createRaw(scope: Scope, mebibytes: number, name = 'disk.raw'): Promise<string> {
  const path = scope.path(name);
  const handle = await open(path, 'w');
  const count = (mebibytes * 1024 * 1024) / BLOCK;
  const all = Array.from({ length: count }, (_, index) =>
    index === 0 ? Buffer.alloc(BLOCK) : blockOf(index),
  );
  await handle.write(Buffer.concat(all));
  await handle.close();
  return path;
}

/** The same disk in another format of qemu-img. */
export async function convertTo(scope: Scope, raw: string, format: string, name: string, options = '') {
  const path = scope.path(name);
  const words = options === '' ? [] : ['-o', options];
  await runProgram('qemu-img', 'convert', '-f', 'raw', '-O', format, ...words, raw, path);
  return path;
}

/** The number of the block whose text a file has at an offset; undefined if there is no such text. */
export async function blockAt(file: string, offset: number): Promise<number | undefined> {
  const bytes = await readAt(file, offset, BLOCK);
  const index = Number(/^block (\d+) of/.exec(bytes.toString('latin1', 0, 40))?.[1] ?? Number.NaN);
  return bytes.equals(blockOf(index)) ? index : undefined;
}

/** SHA-256 of a file, in hexadecimal digits. */
export async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** The first `length` bytes of a file as a hash, for disks that a format has rounded up. */
export async function hashOfFirst(path: string, length: number): Promise<string> {
  return createHash('sha256')
    .update((await readFile(path)).subarray(0, length))
    .digest('hex');
}
