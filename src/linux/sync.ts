// Versions of Linux that write dirty pages back during lseek(2).
//
// Used by the worker, which then waits for the writes.

import { isSince } from './kernel.js';

/**
 * Whether sync_file_range(2) sends a file's dirty pages during an lseek(2). Before Linux 6.16 closing a FUSE file takes
 * the lock of lseek(2), and sync_file_range(2) does not wait for the replies to writes.
 */
export function worksDuringSeek(release: string): boolean {
  return isSince(release, 6, 16);
}
