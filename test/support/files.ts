// Reads and writes of a file at an offset, as an application does them.
//
// Used by tests on mounted disks. Every descriptor is closed before a test ends: an open one keeps the
// mount busy.

import { type FileHandle, open } from 'node:fs/promises';
import type { Scope } from './run/scope.js';

/** Opens a file; the scope's end closes it, if the test has not. */
export async function openFile(scope: Scope, path: string, flags: string | number): Promise<FileHandle> {
  const handle = await open(path, flags);
  // close(2) reports failed writes, which some tests check.
  scope.add(() => handle.close().catch(() => undefined));
  return handle;
}

/** Writes all bytes at an offset and closes, which brings them to the server. */
export async function writeAt(path: string, bytes: Uint8Array, offset: number): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  } finally {
    await handle.close();
  }
}

/** The bytes at an offset; fewer than `length` only at the end of the file. */
export async function readAt(path: string, offset: number, length: number): Promise<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
