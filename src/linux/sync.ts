// Making the kernel send the writes that it holds back, without fsync(2) and its locks.
//
// Used by the session for lseek(2); the worker asks first whether this kernel can.

import { open } from 'node:fs/promises';
import { isSince } from './kernel.js';
import { libc } from './libc.js';

/** SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER. */
const WRITE_AND_WAIT = 7;

/**
 * Whether `sendHeldWrites` works while somebody's lseek(2) waits: in kernels before 6.16 closing a file of
 * fuse takes the lock that lseek(2) holds, and sync_file_range(2) does not wait for the answers to writes.
 */
export function worksDuringSeek(release: string): boolean {
  return isSince(release, 6, 16);
}

/**
 * Resolves when all writes to the file that the kernel held have been answered. Never blocks this thread, so the
 * file may be one that this process serves. @throws Error when it cannot be opened, or the call fails
 */
export async function sendHeldWrites(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await new Promise<void>((resolve, reject) => {
      libc.sync_file_range.async(file.fd, 0, 0, WRITE_AND_WAIT, (error: unknown, result: unknown) => {
        if (error === null && result === 0) resolve();
        else reject(new Error('sync_file_range failed'));
      });
    });
  } finally {
    await file.close();
  }
}
