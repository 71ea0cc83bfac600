// Opens a local file whose bytes the kernel is to read in place of the mount's: it must be a raw file of the same size.
//
// The kernel reads past the end of the mount's file where the local file is longer, so its size must be the same.

import { type FileHandle, open } from 'node:fs/promises';
import { O_DIRECT, O_RDONLY } from '../../constants/open-flags.js';
import { lockContentForReading } from '../../linux/file-lock.js';
import { addressOf } from '../../linux/libc.js';
import { pathThrough } from '../../linux/path.js';
import { reasonOf } from '../../transport/errors.js';
import type { LocalCopy } from '../../worker/contract/messages.js';

/** Bytes whose multiples a program with O_DIRECT may ask a disk for. */
const SECTOR = 512;

/**
 * Opens the file at `path` while `use` runs, which gets the reason if it cannot be used. @param size bytes of the mount's
 * file @throws what `use` throws
 */
export async function withLocalCopy<T>(
  path: string,
  size: bigint | undefined,
  use: (copy: LocalCopy) => Promise<T>,
): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, O_RDONLY);
  } catch (error) {
    return use({ why: reasonOf(error) });
  }
  try {
    return await use(await lookAt(handle, size));
  } finally {
    await handle.close();
  }
}

async function lookAt(handle: FileHandle, size: bigint | undefined): Promise<LocalCopy> {
  const found = await handle.stat({ bigint: true });
  if (!found.isFile()) return { why: 'the cache file is not a regular file' };
  if (found.size !== size) return { why: `the cache file has ${found.size} bytes in place of ${size}` };
  // The chunk server of this mount, or of a later one, changes no file that the kernel still reads.
  if (!lockContentForReading(handle.fd)) return { why: 'another process changes the cache file' };
  const direct = await readsSectors(handle.fd);
  if (direct === undefined) return { why: 'the file system of the cache file has no O_DIRECT' };
  return { descriptor: handle.fd, direct };
}

/**
 * Whether O_DIRECT reads sectors of a file: its file system may want larger ones. Undefined where it has no O_DIRECT; the
 * kernel would then fail the open(2) of programs that use it.
 */
async function readsSectors(descriptor: number): Promise<boolean | undefined> {
  const handle = await open(pathThrough(descriptor), O_RDONLY | O_DIRECT).catch(() => undefined);
  if (handle === undefined) return undefined;
  const memory = new Uint8Array(3 * SECTOR);
  const start = SECTOR - (addressOf(memory) % SECTOR);
  try {
    await handle.read(memory, start, SECTOR, SECTOR);
    return true;
  } catch {
    return false;
  } finally {
    await handle.close();
  }
}
