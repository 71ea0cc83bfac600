// Makes the kernel write dirty pages back, without fsync(2) and its locks.
//
// Used by the session for lseek(2), on kernels where it works.

import { open } from 'node:fs/promises';
import { isSince } from './kernel.js';
import { libc } from './libc.js';

/** SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER. */
const WRITE_AND_WAIT = 7;

/**
 * Whether `writeBackDirtyPages` works during an lseek(2). Before Linux 6.16 closing a FUSE file takes the lock of
 * lseek(2), and sync_file_range(2) does not wait for the replies to writes.
 */
export function worksDuringSeek(release: string): boolean {
  return isSince(release, 6, 16);
}

/**
 * Writes a file's dirty pages back and resolves when all these writes have replies. Does not block this thread, so this
 * process may serve the file itself. @throws Error if the file cannot be opened or the call fails
 */
export async function writeBackDirtyPages(path: string): Promise<void> {
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
